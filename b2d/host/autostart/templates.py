"""Login items for systemd, launchd and Windows."""

import os
import plistlib
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from b2d.errors import ConfigError

TASKS = "http://schemas.microsoft.com/windows/2004/02/mit/task"
DAMAGE = (LookupError, AttributeError, TypeError, ArithmeticError, RecursionError, struct.error)  # errors of plistlib
STOP_S = 180  # for a machine to power off, before its power is cut


def check(texts: Iterable[str]) -> None:
    """Raise ConfigError for a line break or another control character, which could add a line to a unit."""
    for text in texts:
        if not is_plain_text(text):
            raise ConfigError(
                f"{text!r} contains a control character and cannot be used at login", hint="b2d --dir FOLDER"
            )


def is_plain_text(text: str) -> bool:
    """Return whether the text has no control characters."""
    return not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)


def split_path(path: str) -> tuple[str, list[str]]:
    """Split the entries of PATH into those that a login item can contain, joined again, and the others.

    The others have control characters or invalid UTF-8, for which systemd and launchd would ignore the whole value.
    """
    entries = path.split(os.pathsep)
    usable = [
        entry for entry in entries if is_plain_text(entry) and not any("\ud800" <= char <= "\udfff" for char in entry)
    ]
    return os.pathsep.join(usable), [entry for entry in entries if entry not in usable]


def unit(mark: str, start: Sequence[str], stop: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Return a service (systemd.service(5)) that counts as active after `start`, with what that left running.

    Raises ConfigError for text that a unit cannot contain, as plist and task do.
    """
    check([mark, *start, *stop, *environment, *environment.values()])
    lines = [
        f"# {mark}",
        "[Unit]",
        f"Description={_escape(mark)}",
        "",
        "[Service]",
        "Type=oneshot",
        "RemainAfterExit=yes",
        *(f"Environment={_quote(f'{name}={value}')}" for name, value in environment.items()),
        f"ExecStart={_command_line(start)}",
        f"ExecStop={_command_line(stop)}",
        "TimeoutStartSec=infinity",  # up has a limit of its own
        f"TimeoutStopSec={STOP_S}",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _command_line(words: Sequence[str]) -> str:
    """Return a command line by env: systemd interprets its first word differently."""
    return " ".join(["/usr/bin/env", *(_quote(word).replace("$", "$$") for word in words)])


def _quote(word: str) -> str:
    return '"' + _escape(word.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape(text: str) -> str:
    return text.replace("%", "%%")


def plist(label: str, mark: str, start: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Return an agent (launchd.plist(5)) whose processes keep running; launchd has no action for a logout."""
    check([mark, *start, *environment, *environment.values()])
    return plistlib.dumps(
        {
            "Label": label,
            "B2DMachine": mark,  # launchd ignores unknown keys
            "ProgramArguments": list(start),
            "EnvironmentVariables": dict(environment),
            "RunAtLoad": True,
            "AbandonProcessGroup": True,
        }
    )


def plist_mark(content: bytes) -> str:
    """Return the mark of the machine in an agent, "" for none."""
    try:
        agent = plistlib.loads(content)
    except (ValueError, ExpatError, *DAMAGE):
        return ""
    return str(agent.get("B2DMachine", "")) if isinstance(agent, dict) else ""


def unit_mark(content: bytes) -> str:
    """Return the mark of the machine in a unit, "" for none."""
    first = content.decode("utf-8", "surrogateescape").partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") else ""


def task(mark: str, user: str, start: Sequence[str]) -> bytes:
    """Return a task (Task Scheduler 1.2) for the user at each login; Windows has no action for a logout."""
    check([mark, user, *start])
    ElementTree.register_namespace("", TASKS)
    root = ElementTree.Element(f"{{{TASKS}}}Task", version="1.2")
    for path, text in (
        ("RegistrationInfo/Source", mark),
        ("Triggers/LogonTrigger/Enabled", "true"),
        ("Triggers/LogonTrigger/UserId", user),  # a task for all users needs an administrator
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
        _add_element(root, path.split("/"), text)
    content: bytes = ElementTree.tostring(root, encoding="utf-16")
    return content


def _add_element(parent: ElementTree.Element, path: list[str], text: str) -> None:
    for name in path:
        child = parent.find(f"{{{TASKS}}}{name}")
        parent = ElementTree.SubElement(parent, f"{{{TASKS}}}{name}") if child is None else child
    parent.text = text
