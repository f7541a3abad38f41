"""What the version of an image promises of Docker and Linux, and since when Docker reads no AUFS."""

import re

# b2d's own images name Docker and Linux, boot2docker's Docker alone, and of others nothing is known
VERSION = re.compile(r"v?(?P<docker>(\d+)\.(\d+)\.\d+(?:-(?:ce|rc\d+))*)(?:-(?P<linux>\d+\.[\d.]+))?")
WITHOUT_AUFS = (18, 9)


def version_mismatches(version: str, docker: str, linux: str) -> str:
    """What does not hold where these run, in words; empty where all does, or nothing was promised."""
    promised = VERSION.fullmatch(version)
    if promised is None:
        return ""
    runs = {"docker": docker.partition("+")[0], "linux": re.split("[-+]", linux)[0]}
    wrong = [f"{what.capitalize()} {runs[what]}" for what in runs if promised[what] not in (None, runs[what])]
    return " and ".join(wrong)


def supports_aufs(version: str) -> bool:
    """True when it is known that the Docker in it does."""
    promised = VERSION.fullmatch(version)
    return promised is not None and (int(promised[2]), int(promised[3])) < WITHOUT_AUFS


def loses_aufs_data(old: str, new: str) -> bool:
    """True where layers that `old` made are lost on `new`."""
    return supports_aufs(old) and not supports_aufs(new)
