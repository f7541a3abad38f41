"""The entry point: a fast path for the most frequent commands; click runs all others.

Every new shell runs shellinit and ip: they are answered from the file that `up` wrote, and import only what Python has
loaded anyway. A plain status imports the driver, but not click.
"""

import os
import sys

from b2d import machine_names
from b2d.shell import detect, export, variables

TYPE_CHECKING = False  # as in the module typing, which is slow to import
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

VERBS = {"shellinit": "shellinit", "env": "shellinit", "ip": "ip", "status": "status"}
DEFAULT_NAME = "boot2docker-vm"
QUIET = frozenset(("-q", "--quiet"))
FLAGS = QUIET | {"--json", "--unset"}  # of shellinit
ABSENT, NOT_RUNNING = 3, 4  # the exit codes of errors.py
CTRL_C = 2  # SIGINT's number
NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # do not wait for the writer of a FIFO in a file's place
MAX_BYTES = 65536  # that are read of a file


def main() -> "NoReturn":
    """Run the command line of this process and exit with its exit code."""
    _reopen_standard_streams()
    try:
        answer = _fast_answer(sys.argv[1:])
        if answer is not None:
            text, code = answer
            _write(text)
            _exit(code)
        _exit(_run_click())
    except KeyboardInterrupt as end:
        _exit_interrupted(getattr(end, "number", CTRL_C))


def _run_click() -> int:
    _relax_garbage_collection()
    try:
        from b2d.cli.main import main as click_main
    except ImportError as error:
        hint = "in the checkout of this program: pip install --force-reinstall ."
        sys.stderr.write(f"b2d: this installation is incomplete: {_format_error(error)}\n     try: {hint}\n")
        return 1
    except Exception as error:  # noqa: BLE001  a wrong version of a library may raise anything
        sys.stderr.write(f"b2d: a library cannot be loaded: {type(error).__name__}: {_format_error(error)}\n")
        return 1
    return click_main()


def _format_error(error: Exception) -> str:
    """Return an error's text, safe for a terminal, without importing b2d's modules, which may be missing."""
    return ascii(str(error))[1:-1]


def _relax_garbage_collection() -> None:
    """Raise the threshold: scanning the modules, which stay loaded, takes a twentieth of the run time."""
    import gc

    gc.set_threshold(20_000)


def _exit_interrupted(number: int) -> "NoReturn":
    """Exit as shells do: with 128 plus the number of the signal."""
    from contextlib import suppress

    with suppress(OSError):  # the terminal may be gone
        sys.stderr.write("\nb2d: interrupted\n")
    _exit(128 + number)


def _reopen_standard_streams() -> None:
    """Redirect closed standard streams to the null device: otherwise the next opened file would get their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null_device = os.open(os.devnull, os.O_RDWR)
            if null_device != number:
                os.dup2(null_device, number)
                os.close(null_device)
            setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def _exit(code: int) -> "NoReturn":
    """End the process without Python's clean-up, which takes milliseconds for what the kernel frees anyway."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # the reader is gone, or the disk is full
        code = code or 1
    os._exit(code)


def _fast_answer(arguments: "list[str]") -> "tuple[str, int] | None":
    """Return the output and exit code of a simple command with a simple result, else None."""
    parsed = _parse(arguments)
    if parsed is None:
        return None
    verb, name, shell, flags = parsed
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
            return _quiet_exit_code(folder, flags)
        if verb == "ip":
            _introduce_address()
            return facts["address"] + "\n", 0
        docker = {key: facts[key] for key in variables.DOCKER if key in facts}
        changes = variables.set_changes(docker, os.environ)
    family = "nu" if "--json" in flags else detect.FAMILIES.get(shell) or detect.detect(os.environ)
    return (export.render(changes, family), 0) if changes else None


def _introduce_address() -> None:
    """Write the sentence of 2014 before the address, for a person who typed `boot2docker ip` at a terminal."""
    if sys.argv[0].endswith(("boot2docker", "boot2docker.exe")) and sys.stdout.isatty() and sys.stderr.isatty():
        sys.stderr.write("The VM's IP address on this host is: ")
        sys.stderr.flush()


def _status(name: str) -> "tuple[str, int] | None":
    """Return the output and exit code of status; None on any error, which click then meets again and explains."""
    _relax_garbage_collection()
    try:
        from b2d.cli.fast_status import answer_status

        return answer_status(name)
    except Exception:  # noqa: BLE001
        return None


def _parse(arguments: "list[str]") -> "tuple[str, str, str, set[str]] | None":
    """Return the verb, the machine and the shell, "" if not given, and the flags; None for any other command line."""
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
    """Return the folder of a machine, of the default one for ""; None when in doubt."""
    home = os.path.expanduser(os.environ.get("B2D_HOME") or "~/.b2d")  # noqa: PTH111  pathlib is slow
    if not name and no_settings_file(home, os.environ):
        name = DEFAULT_NAME
    if not machine_names.is_valid(name) or home[0] == "~" or "\n" in home or "\r" in home:
        return None
    return f"{home}/machines/{name}"


def no_settings_file(home: str, environ: "Mapping[str, str]") -> bool:
    """Return True when no settings file names another machine than the default one; False when in doubt."""
    for path in (home + "/config.toml", _profile_path(environ)):  # the first existing file counts
        try:
            content = _content(path)
            lines = content.decode().split("\n")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError):
            return False
        return len(content) < MAX_BYTES and not any(map(_may_have_settings, lines))
    return True


def _may_have_settings(line: str) -> bool:
    """Return True for a line of TOML whose key may be vm, in any spelling that boot2docker_profile.py accepts."""
    key, _, value = line.partition("=")
    if value.strip() == f'"{DEFAULT_NAME}"':  # as `boot2docker config` writes it by default
        return False
    plain = key.lower().replace("-", "").replace("_", "").lstrip("\ufeff \t[\"'")
    return plain.startswith("vm") or "\\" in key  # a character may be written as an escape


def _profile_path(environ: "Mapping[str, str]") -> str:
    """Return the path of boot2docker's profile, as boot2docker_profile.py does; "" for a user without a home."""
    home = environ.get("HOME") or environ.get("USERPROFILE")
    folder = environ.get("BOOT2DOCKER_DIR") or (home and home + "/.boot2docker")
    return environ.get("BOOT2DOCKER_PROFILE") or (folder and folder + "/profile") or ""


def _facts(folder: str) -> "dict[str, str] | None":
    """Read the machine's env file; None when it is missing, or has control characters: click examines it then."""
    text = _read(folder + "/env")
    if not text.replace("\n", "").isprintable():
        return None
    facts = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
    return facts if "address" in facts and "DOCKER_HOST" in facts else None


def _quiet_exit_code(folder: str, flags: "set[str]") -> "tuple[str, int] | None":
    """Return the exit code with --quiet of a machine that is not up, which has no env file; None otherwise."""
    if not flags & QUIET or "--json" in flags or os.path.exists(folder + "/env"):  # noqa: PTH110
        return None
    return "", NOT_RUNNING if os.path.exists(folder + "/machine.json") else ABSENT  # noqa: PTH110


def _runs(facts: "dict[str, str]") -> bool:
    """Return True when the machine's process of `up` still runs (process_identity.py); False when unknown too."""
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
    except (OSError, ValueError):  # ValueError: an invalid path, from a damaged file
        return ""


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | NONBLOCK)
    try:
        return os.read(descriptor, MAX_BYTES)
    finally:
        os.close(descriptor)


def _write(text: str) -> None:
    rest = text.encode("utf-8", "surrogateescape")
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except BrokenPipeError:  # the reader is gone
        os._exit(1)
    except OSError as error:
        sys.stderr.write(f"b2d: stdout cannot be written: {error.strerror}\n")
        _exit(1)


if __name__ == "__main__":
    main()
