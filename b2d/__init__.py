"""b2d: one command to a Docker host in a tiny Linux that runs from RAM."""
