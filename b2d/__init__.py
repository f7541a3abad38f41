"""One command to a Docker host in a tiny Linux that runs from RAM: the boot2docker of today."""

__version__ = "0.1.0"
