"""Shell detection: the known shells, the calling shell, and the characters that no shell interprets."""

import os

TYPE_CHECKING = False  # as in the module typing, which is slow to import
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FAMILIES = {  # every name that `--shell` accepts, and its syntax family
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
ANCESTORS = 5  # sudo, timeout and the like may stand between, one or two at a time


def is_plain(value: str) -> bool:
    """Return True for a value that no shell changes and none needs quoted."""
    return bool(value) and PLAIN.issuperset(value)


def detect(environ: "Mapping[str, str]", *, windows: bool = os.name == "nt", processes: str = "/proc") -> str:
    """Return the family of the shell that runs this process, or of the login shell where /proc does not tell."""
    for _, name in zip(range(2 * ANCESTORS), _parents(processes), strict=False):
        family = _family(name)
        if family:
            return family
    login = environ.get("SHELL", "")  # on Windows that of Git Bash, which sets it
    return _windows(environ) if windows and not login else _family(login) or "sh"


def _windows(environ: "Mapping[str, str]") -> str:
    """Tell cmd and PowerShell apart: cmd sets PROMPT, PowerShell adds folders to PSMODULEPATH."""
    modules = environ.get("PSMODULEPATH", "").split(";")
    return "cmd" if "PROMPT" in environ and len(modules) < 3 else "powershell"


def _parents(processes: str) -> "Iterator[str]":
    """Yield each parent's program, nearest first, then its process name, which for a script is the script's."""
    pid = os.getppid()
    while pid > 0:
        try:  # noqa: SIM105  contextlib is slow
            yield os.readlink(f"{processes}/{pid}/exe")  # noqa: PTH115  so is pathlib
        except OSError:
            pass  # another user's process, whose name can be read below
        try:
            descriptor = os.open(f"{processes}/{pid}/stat", os.O_RDONLY)
        except OSError:
            return
        try:
            before, _, after = os.read(descriptor, 4096).decode("utf-8", "replace").rpartition(")")
        finally:
            os.close(descriptor)
        yield before.partition("(")[2]
        pid = int(after.split()[1])


def _family(path: str) -> str:
    """Return the family of the shell at `path`, "" for other programs."""
    name = path.replace("\\", "/").rpartition("/")[2].removesuffix(" (deleted)").removesuffix(".exe")
    return FAMILIES.get(name) or FAMILIES.get(name.rstrip("0123456789.-"), "")
