"""What starts a program at login, as systemd, launchd and Windows write it."""

import os
import plistlib
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from b2d.errors import ConfigError

TASKS = "http://schemas.microsoft.com/windows/2004/02/mit/task"
DAMAGE = (LookupError, AttributeError, TypeError, ArithmeticError, RecursionError, struct.error)  # of plistlib's own
STOP_S = 180  # that a machine may take to power off; then its power is cut anyway


def check(texts: Iterable[str]) -> None:
    """Raise ConfigError for a line break or another control character: it would begin a line of its own in a unit."""
    for text in texts:
        if not is_sound(text):
            raise ConfigError(
                f"{text!r} holds a control character, and cannot be started at login", hint="b2d --dir FOLDER"
            )


def is_sound(text: str) -> bool:
    """True for text without control characters."""
    return not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)


def sound_path(path: str) -> tuple[str, list[str]]:
    """Split the entries of PATH into those that a login item can hold, joined again, and the others.

    Others hold control characters, or bytes that are no UTF-8, for which systemd and launchd pass over the whole.
    """
    entries = path.split(os.pathsep)
    kept = [entry for entry in entries if is_sound(entry) and not any("\ud800" <= char <= "\udfff" for char in entry)]
    return os.pathsep.join(kept), [entry for entry in entries if entry not in kept]


def unit(mark: str, start: Sequence[str], stop: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """A service (systemd.service(5)) that is on from the end of `start` on, with all that it left running.

    Raises ConfigError for what no unit can hold; so do the two below.
    """
    check([mark, *start, *stop, *environment, *environment.values()])
    lines = [
        f"# {mark}",
        "[Unit]",
        f"Description={_plain(mark)}",
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in environment.items()),
        f"ExecStart={_command(start)}",
        f"ExecStop={_command(stop)}",
        "TimeoutStartSec=infinity",  # up has a limit of its own
        f"TimeoutStopSec={STOP_S}",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _command(words: Sequence[str]) -> str:
    """By env: of the first word systemd makes something else than of the others."""
    return " ".join(["/usr/bin/env", *(_quoted(word).replace("$", "$$") for word in words)])


def _quoted(word: str) -> str:
    return '"' + _plain(word.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def plist(label: str, mark: str, start: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """An agent (launchd.plist(5)) that leaves running what it started; launchd has nothing for the end of a session."""
    check([mark, *start, *environment, *environment.values()])
    return plistlib.dumps(
        {
            "Label": label,
            "B2DMachine": mark,  # launchd passes over keys that it does not know
            "ProgramArguments": list(start),
            "EnvironmentVariables": dict(environment),
            "RunAtLoad": True,
            "AbandonProcessGroup": True,
        }
    )


def plist_mark(content: bytes) -> str:
    """Which machine's it is; "" where nobody's, or no plist."""
    try:
        found = plistlib.loads(content)
    except (ValueError, ExpatError, *DAMAGE):
        return ""
    return str(found.get("B2DMachine", "")) if isinstance(found, dict) else ""


def unit_mark(content: bytes) -> str:
    """Which machine's a unit is; "" where nobody's."""
    first = content.decode("utf-8", "surrogateescape").partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""


def task(mark: str, user: str, start: Sequence[str]) -> bytes:
    """A task (Task Scheduler 1.2) for the person who makes it, at each login; Windows has nothing for its end."""
    check([mark, user, *start])
    ElementTree.register_namespace("", TASKS)
    root = ElementTree.Element(f"{{{TASKS}}}Task", version="1.2")
    for path, text in (
        ("RegistrationInfo/Source", mark),
        ("Triggers/LogonTrigger/Enabled", "true"),
        ("Triggers/LogonTrigger/UserId", user),  # that of everybody only an administrator may make
        ("Principals/Principal/UserId", user),
        ("Principals/Principal/LogonType", "InteractiveToken"),
        ("Principals/Principal/RunLevel", "LeastPrivilege"),
        ("Settings/MultipleInstancesPolicy", "IgnoreNew"),
        ("Settings/DisallowStartIfOnBatteries", "false"),
        ("Settings/StopIfGoingOnBatteries", "false"),
        ("Settings/Hidden", "true"),
        ("Settings/ExecutionTimeLimit", "PT0S"),
        ("Actions/Exec/Command", start[0]),
        ("Actions/Exec/Arguments", subprocess.list2cmdline(start[1:])),
    ):
        _put(root, path.split("/"), text)
    found: bytes = ElementTree.tostring(root, encoding="utf-16")
    return found


def _put(parent: ElementTree.Element, path: list[str], text: str) -> None:
    for name in path:
        child = parent.find(f"{{{TASKS}}}{name}")
        parent = ElementTree.SubElement(parent, f"{{{TASKS}}}{name}") if child is None else child
    parent.text = text
