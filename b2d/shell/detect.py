"""What is known of shells: which there are, which one asks, and what none of them takes for more than it is."""

import os

TYPE_CHECKING = False  # as the module typing has it, which is slow to load
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


def detect(environ: "Mapping[str, str]", *, windows: bool = os.name == "nt", processes: str = "/proc") -> str:
    """The family of the shell that runs this process; of the login shell where the system does not tell cheaply."""
    for _, name in zip(range(2 * ANCESTORS), _parents(processes), strict=False):
        family = _family(name)
        if family:
            return family
    login = environ.get("SHELL", "")  # on Windows that of Git Bash, which sets it
    return _windows(environ) if windows and not login else _family(login) or "sh"


def _windows(environ: "Mapping[str, str]") -> str:
    """What the variables tell: cmd has a prompt, PowerShell adds folders of its own to where its modules lie."""
    modules = environ.get("PSMODULEPATH", "").split(";")
    return "cmd" if "PROMPT" in environ and len(modules) < 3 else "powershell"


def _parents(processes: str) -> "Iterator[str]":
    """The program of each parent, the nearest first, and its name, which for a script is not its interpreter's."""
    pid = os.getppid()
    while pid > 0:
        try:  # noqa: SIM105  contextlib is slow
            yield os.readlink(f"{processes}/{pid}/exe")  # noqa: PTH115  so is pathlib
        except OSError:
            pass  # another user's, whose name is told
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
    """The family of the shell at `path`, "" for what is none."""
    name = path.replace("\\", "/").rpartition("/")[2].removesuffix(" (deleted)").removesuffix(".exe")
    return FAMILIES.get(name) or FAMILIES.get(name.rstrip("0123456789.-"), "")
