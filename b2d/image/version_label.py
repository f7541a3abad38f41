"""The Docker and Linux versions in an image's version, and whether its Docker reads AUFS."""

import re

# b2d's own images name Docker and Linux, boot2docker's only Docker, and others anything
VERSION = re.compile(r"v?(?P<docker>(\d+)\.(\d+)\.\d+(?:-(?:ce|rc\d+))*)(?:-(?P<linux>\d+\.[\d.]+))?")
WITHOUT_AUFS = (18, 9)


def version_mismatches(version: str, docker: str, linux: str) -> str:
    """Return the running versions that differ from an image's version as text; empty where none does."""
    promised = VERSION.fullmatch(version)
    if promised is None:
        return ""
    runs = {"docker": docker.partition("+")[0], "linux": re.split("[-+]", linux)[0]}
    mismatches = [
        f"{component.capitalize()} {runs[component]}"
        for component in runs
        if promised[component] not in (None, runs[component])
    ]
    return " and ".join(mismatches)


def supports_aufs(version: str) -> bool:
    """Return whether the image's Docker is known to read AUFS."""
    promised = VERSION.fullmatch(version)
    return promised is not None and (int(promised[2]), int(promised[3])) < WITHOUT_AUFS


def loses_aufs_data(old: str, new: str) -> bool:
    """Return whether the layers that `old` made are lost on `new`."""
    return supports_aufs(old) and not supports_aufs(new)
