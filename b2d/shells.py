"""What is known of shells: which there are, which one asks, and what none of them takes for more than it is."""

import os

FAMILIES = {  # every name that `--shell` takes, and whose words it speaks
    "sh": "sh",
    "bash": "sh",
    "zsh": "sh",
    "dash": "sh",
    "ksh": "sh",
    "ash": "sh",
    "mksh": "sh",
    "yash": "sh",
    "busybox": "sh",
    "fish": "fish",
    "tcsh": "csh",
    "csh": "csh",
    "bsd-csh": "csh",
    "powershell": "powershell",
    "pwsh": "powershell",
    "cmd": "cmd",
    "nu": "nu",
    "nushell": "nu",
}
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+:,./@%")
ANCESTORS = 5  # sudo, timeout and their like stand between, in ones and twos


def is_plain(value: str) -> bool:
    """True for what no shell changes and none needs quoted."""
    return bool(value) and PLAIN.issuperset(value)


def asking(
    environ: "os._Environ[str] | dict[str, str]", *, windows: bool = os.name == "nt", processes: str = "/proc"
) -> str:
    """The family of the shell that runs this process; of the login shell where the system does not tell cheaply."""
    parent = os.getppid()
    for _ in range(ANCESTORS):
        program, comm, parent = _process(f"{processes}/{parent}")
        found = _family(program) or _family(comm)
        if found:
            return found
        if parent <= 0:
            break
    login = environ.get("SHELL", "")  # on Windows that of an MSYS shell, which sets it
    return _windows(environ) if windows and not login else _family(login) or "sh"


def _windows(environ: "os._Environ[str] | dict[str, str]") -> str:
    """What the variables tell: cmd has a prompt, PowerShell adds folders of its own to where its modules lie."""
    modules = environ.get("PSMODULEPATH", "").split(";")
    return "cmd" if "PROMPT" in environ and len(modules) < 3 else "powershell"


def _process(folder: str) -> "tuple[str, str, int]":
    """Program, name and parent of a process; an interpreter's script gives it its name, so the program counts."""
    try:
        program = os.readlink(folder + "/exe")  # noqa: PTH115  pathlib is slow
    except OSError:  # another user's
        program = ""
    if _family(program):
        return program, "", 0
    try:
        descriptor = os.open(folder + "/stat", os.O_RDONLY)
    except OSError:
        return program, "", 0
    try:
        before, _, after = os.read(descriptor, 4096).decode("utf-8", "replace").rpartition(")")
    finally:
        os.close(descriptor)
    return program, before.partition("(")[2], int(after.split()[1])


def _family(path: str) -> str:
    """The family of the shell at `path`, "" for what is none."""
    name = path.replace("\\", "/").rpartition("/")[2].removesuffix(" (deleted)").removesuffix(".exe")
    return FAMILIES.get(name) or FAMILIES.get(name.rstrip("0123456789.-"), "")
