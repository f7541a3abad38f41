"""The door: what is asked most often is answered at once, everything else goes to click.

shellinit and ip are run by every new shell: they are answered from what `up` wrote, and nothing is imported for them
but what Python has loaded by itself. A plain status loads what asks the hypervisor, but not click.
"""

import os
import sys

from b2d import machine_names
from b2d.shell import detect, export, variables

TYPE_CHECKING = False  # as the module typing has it, which is slow to load
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

VERBS = {"shellinit": "shellinit", "env": "shellinit", "ip": "ip", "status": "status"}
DEFAULT_NAME = "boot2docker-vm"
QUIET = frozenset(("-q", "--quiet"))
FLAGS = QUIET | {"--json", "--unset"}  # of shellinit
ABSENT, NOT_RUNNING = 3, 4  # as errors.py has them
CTRL_C = 2  # SIGINT's number
NEVER_WAIT = getattr(os, "O_NONBLOCK", 0)  # for the writer of a FIFO that somebody put there
LONGEST = 65536  # bytes, of a file that is looked into here


def main() -> "NoReturn":
    """Run the command line of this process, and end it with the exit code."""
    _reopen_standard_streams()
    try:
        answer = _fast_answer(sys.argv[1:])
        if answer is not None:
            text, code = answer
            _write(text)
            _exit(code)
        _exit(_click())
    except KeyboardInterrupt as end:
        _interrupted(getattr(end, "number", CTRL_C))


def _click() -> int:
    _relax_garbage_collection()
    try:
        from b2d.cli.main import main as click_main
    except ImportError as error:
        again = "in the checkout of this program: pip install --force-reinstall ."
        sys.stderr.write(f"b2d: this installation is not whole: {_print_error(error)}\n     try: {again}\n")
        return 1
    except Exception as error:  # noqa: BLE001  a library that is another than it should be may raise anything
        sys.stderr.write(f"b2d: a library cannot be loaded: {type(error).__name__}: {_print_error(error)}\n")
        return 1
    return click_main()


def _print_error(error: Exception) -> str:
    """What it says, for a terminal: with nothing of b2d loaded, some of which is what is missing."""
    return ascii(str(error))[1:-1]


def _relax_garbage_collection() -> None:
    """What is loaded now stays: looking through it again and again is a twentieth of the time."""
    import gc

    gc.set_threshold(20_000)


def _interrupted(number: int) -> "NoReturn":
    """End as shells have it: 128 and the number of the signal."""
    from contextlib import suppress

    with suppress(OSError):  # the terminal may be what has gone
        sys.stderr.write("\nb2d: interrupted\n")
    _exit(128 + number)


def _reopen_standard_streams() -> None:
    """A stream that the caller closed leads nowhere, else the next file that is opened would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _exit(code: int) -> "NoReturn":
    """End the process: what Python would tidy up now takes it milliseconds, and the kernel none."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more, or the disk is full
        code = code or 1
    os._exit(code)


def _fast_answer(arguments: "list[str]") -> "tuple[str, int] | None":
    """The answer with its exit code, where the question is a usual one and has a plain answer, else None."""
    asked = _parse(arguments)
    if asked is None:
        return None
    verb, name, shell, flags = asked
    if verb == "status":
        return _status(name)
    if "--unset" in flags:
        changes = variables.unset_changes(os.environ)
    else:
        folder = _folder(name or os.environ.get("B2D_VM", ""))
        if folder is None:
            return None
        facts = _facts(folder)
        if facts is None or not _runs(facts):
            return _is_quietly_stopped(folder, flags)
        if verb == "ip":
            return facts["address"] + "\n", 0
        docker = {key: facts[key] for key in variables.DOCKER if key in facts}
        changes = variables.set_changes(docker, os.environ)
    family = "nu" if "--json" in flags else detect.FAMILIES.get(shell) or detect.detect(os.environ)
    return (export.render(changes, family), 0) if changes else None


def _status(name: str) -> "tuple[str, int] | None":
    """How the machine is. Whatever goes wrong, click does it again, and explains it."""
    _relax_garbage_collection()
    try:
        from b2d.cli.fast_status import answer_status

        return answer_status(name)
    except Exception:  # noqa: BLE001
        return None


def _parse(arguments: "list[str]") -> "tuple[str, str, str, set[str]] | None":
    """Verb, machine and shell if they are given, and flags; None for whatever is not as plain as that."""
    verb = name = shell = ""
    flags = set()
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if word in VERBS and not verb:
            verb = VERBS[word]
        elif option in ("--vm", "--shell"):
            value = value if equals else next(words, "")
            if option == "--vm":
                name = value
            else:
                shell = value
            if not value:
                return None
        elif word in FLAGS:
            flags.add(word)
        else:
            return None
    if not verb or ((shell or flags) and verb != "shellinit") or (shell and shell not in detect.FAMILIES):
        return None
    return verb, name, shell, flags


def _folder(name: str) -> "str | None":
    """The folder of the machine of that name, or where none was given, of the usual one; None when in doubt."""
    home = os.path.expanduser(os.environ.get("B2D_HOME") or "~/.b2d")  # noqa: PTH111  pathlib is slow
    if not name and no_settings_file(home, os.environ):
        name = DEFAULT_NAME
    if not machine_names.is_valid(name) or home[0] == "~" or "\n" in home or "\r" in home:
        return None
    return f"{home}/machines/{name}"


def no_settings_file(home: str, environ: "Mapping[str, str]") -> bool:
    """True where no file of settings names another machine than the usual one; False when in doubt."""
    for path in (home + "/config.toml", _profile_path(environ)):  # the first that is there counts
        try:
            content = _content(path)
            lines = content.decode().split("\n")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError):
            return False
        return len(content) < LONGEST and not any(map(_may_have_settings, lines))
    return True


def _may_have_settings(line: str) -> bool:
    """True for a line of TOML whose key may be vm, in any of the spellings that profile.py takes for it."""
    key, _, value = line.partition("=")
    if value.strip() == f'"{DEFAULT_NAME}"':  # as `boot2docker config` wrote it unasked
        return False
    plain = key.lower().replace("-", "").replace("_", "").lstrip("\ufeff \t[\"'")
    return plain.startswith("vm") or "\\" in key  # a sign may be written as its number


def _profile_path(environ: "Mapping[str, str]") -> str:
    """Where boot2docker's profile would be (profile.py); "" for a person without a home."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    folder = environ.get("BOOT2DOCKER_DIR") or (home and home + "/.boot2docker")
    return environ.get("BOOT2DOCKER_PROFILE") or (folder and folder + "/profile") or ""


def _facts(folder: str) -> "dict[str, str] | None":
    """The machine's file env; None when it is not there, or may hold what a terminal obeys: click looks closer."""
    text = _read(folder + "/env")
    if not text.replace("\n", "").isprintable():
        return None
    facts = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
    return facts if "address" in facts and "DOCKER_HOST" in facts else None


def _is_quietly_stopped(folder: str, flags: "set[str]") -> "tuple[str, int] | None":
    """The exit code, where nothing else is wanted, of a machine that is not up: without `env` none is."""
    if not flags & QUIET or "--json" in flags or os.path.exists(folder + "/env"):  # noqa: PTH110
        return None
    return "", NOT_RUNNING if os.path.exists(folder + "/machine.json") else ABSENT  # noqa: PTH110


def _runs(facts: "dict[str, str]") -> bool:
    """True when the process that `up` saw is still that very one (identity.py); False too when nobody can tell."""
    stat = _read(f"/proc/{facts.get('pid')}/stat").rpartition(")")[2].split()
    boot_id = _read("/proc/sys/kernel/random/boot_id").strip()
    return (
        len(stat) > 19
        and stat[0] not in "ZX"
        and stat[19] == facts.get("start_time")
        and boot_id == facts.get("boot_id")
    )


def _read(path: str) -> str:
    try:
        return _content(path).decode("utf-8", "surrogateescape")
    except (OSError, ValueError):  # the latter: a name that can be none, from a damaged file
        return ""


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | NEVER_WAIT)
    try:
        return os.read(descriptor, LONGEST)
    finally:
        os.close(descriptor)


def _write(text: str) -> None:
    rest = text.encode("utf-8", "surrogateescape")
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except BrokenPipeError:  # nobody reads any more
        os._exit(1)
    except OSError as error:
        sys.stderr.write(f"b2d: stdout cannot be written: {error.strerror}\n")
        _exit(1)


if __name__ == "__main__":
    main()
