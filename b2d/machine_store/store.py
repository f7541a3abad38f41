"""The stored data of a home's machines: each one's spec, what `up` found out, and the lock.

Modules that `b2d list` of an empty home does not need are imported where they are used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from b2d import machine_names
from b2d.errors import B2dError, ConfigError, MachineLockedError
from b2d.host.files import (
    FileTooLargeError,
    NotRegularFileError,
    check_owner,
    is_regular,
    open_to_write,
    os_errors_as_b2d_errors,
    private_folder,
    read_bounded,
    read_text_tail,
    write_atomic,
)
from b2d.machine_store import spec_json
from b2d.machine_store.spec_json import SCHEMA, CorruptSpecError
from b2d.paths import Home, MachinePaths

if TYPE_CHECKING:
    from b2d.machine_store.running_facts import RunningFacts
    from b2d.models import MachineSpec

LOCK_WAIT_S = 5.0


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` can be the name of a machine and its folder."""
    if not machine_names.is_valid(name):
        raise ConfigError(f"{name!r} is not a valid machine name", hint=machine_names.HINT)


class MachineStore:
    """The folder machines/ of a home. Readers never wait; writers hold a machine's lock."""

    def __init__(self, home: Home, lock_wait_s: float = LOCK_WAIT_S) -> None:
        """Open the store; the folder need not exist."""
        self.home = home
        self.lock_wait_s = lock_wait_s

    def names(self) -> list[str]:
        """Return the sorted names of machines with a spec, readable or not."""
        with os_errors_as_b2d_errors(self.home.machines):
            folders = list(self.home.machines.iterdir()) if self.home.machines.is_dir() else []
            valid = [folder.name for folder in folders if machine_names.is_valid(folder.name)]
            return sorted(name for name in valid if is_regular(self._paths(name).spec))

    def lost(self) -> list[str]:
        """Return the sorted names of machines without a spec: half created, half deleted, or damaged.

        A folder without any file of b2d's is not a machine.
        """
        from b2d.machine_store import folder_removal

        with os_errors_as_b2d_errors(self.home.machines):
            folders = list(self.home.machines.iterdir()) if self.home.machines.is_dir() else []
            valid = [folder.name for folder in folders if machine_names.is_valid(folder.name)]
            without = [name for name in valid if not is_regular(self._paths(name).spec)]
            return sorted(name for name in without if folder_removal.is_own_file(self._paths(name).folder))

    def read(self, name: str) -> "MachineSpec | None":
        """Return the spec, None when there is no such machine. Raises B2dError for an unreadable file."""
        return _read(self._paths(name).spec, name)

    def read_copy(self, name: str) -> "MachineSpec | None":
        """Return the copy of the last spec, None when it cannot be read."""
        try:
            return _read(self._paths(name).spec_copy, name)
        except CorruptSpecError as error:
            return error.moved
        except B2dError:
            return None

    def write(self, spec: "MachineSpec") -> None:
        """Store the spec, and create the machine's folder where there is none."""
        import json

        paths = self._paths(spec.name)
        content = json.dumps({"schema": SCHEMA, **spec._asdict()}, indent=2) + "\n"
        with os_errors_as_b2d_errors(paths.spec):
            private_folder(paths.folder)
            write_atomic(paths.spec, content.encode())
            self._make_way(paths.spec_copy)
            write_atomic(paths.spec_copy, content.encode())

    def put_aside(self, name: str) -> Path:
        """Rename a spec that cannot be read, and return its new path."""
        paths = self._paths(name)
        with os_errors_as_b2d_errors(paths.spec):
            self._make_way(paths.spec_broken)
            return paths.spec.rename(paths.spec_broken)

    def remove(self, name: str) -> list[str]:
        """Remove the machine's own files, and its folder if it is empty then; a missing one is no error.

        Returns a sentence on each thing that stays: files of others, and targets of links.
        """
        from b2d.machine_store import folder_removal

        with os_errors_as_b2d_errors(self._paths(name).folder):
            return folder_removal.remove_machine(self._paths(name))

    def check_case_conflict(self, name: str) -> None:
        """Raise ConfigError where the name of a machine differs only in case.

        Some file systems would take both for one.
        """
        for other in self.names():
            if other != name and other.casefold() == name.casefold():
                raise ConfigError(f"{name} differs only in case from the machine {other}", hint=f"--vm {other}")

    def neighbours(self, name: str) -> "list[MachineSpec]":
        """Return the specs of the home's other machines, without those that cannot be read."""
        specs = []
        for other in self.names():
            try:
                spec = self.read(other) if other != name else None
            except B2dError:
                continue
            if spec is not None:
                specs.append(spec)
        return specs

    @contextmanager
    def lock(self, name: str, verb: str) -> Iterator[None]:
        """Hold the machine's lock for `verb`. Raises MachineLockedError naming the holder after a wait.

        The kernel releases it with the process, however that ends. It is not reentrant.
        """
        from filelock import FileLock, Timeout

        paths = self._paths(name)
        with os_errors_as_b2d_errors(paths.lock):
            check_owner(self.home.root)
            private_folder(paths.lock.parent)
            lock = FileLock(paths.lock)
            try:
                lock.acquire(timeout=self.lock_wait_s)
            except Timeout:
                raise _locked_error(name, paths) from None
        try:
            # the holder is only for messages: failing to record it is no error
            with suppress(OSError), os.fdopen(open_to_write(paths.holder, os.O_TRUNC), "w") as file:
                file.write(f"{os.getpid()} {verb}\n")
            yield
        finally:
            with suppress(OSError):
                paths.holder.unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def allocation_lock(self) -> Iterator[None]:
        """Hold the lock for allocating addresses, for a moment. Raises MachineLockedError."""
        from filelock import FileLock, Timeout

        with os_errors_as_b2d_errors(self.home.machines_lock):
            private_folder(self.home.machines)
            try:
                lock = FileLock(self.home.machines_lock).acquire(timeout=LOCK_WAIT_S)
            except Timeout:
                raise MachineLockedError("another b2d is creating a machine", hint="try again in a moment") from None
        with lock:
            yield

    def write_env(self, name: str, facts: "RunningFacts") -> None:
        """Store the facts for shellinit and ip. Raises B2dError for a value with a line break."""
        path = self._paths(name).env
        lines = []
        for key, value in facts.values().items():
            if "\n" in value or "\r" in value:
                raise B2dError(f"{key} contains a line break and cannot be stored in {path}: {value!r}")
            lines.append(f"{key}={value}\n")
        with os_errors_as_b2d_errors(path):
            write_atomic(path, "".join(lines).encode("utf-8", "surrogateescape"))

    def remove_env(self, name: str) -> None:
        """Remove the stored facts; missing ones are no error."""
        path = self._paths(name).env
        with os_errors_as_b2d_errors(path):
            self._make_way(path)

    def read_env(self, name: str) -> "RunningFacts | None":
        """Return the stored facts, None when incomplete. They may be stale: only the driver knows."""
        from b2d.machine_store import running_facts

        try:
            text = read_bounded(self._paths(name).env).decode("utf-8", "surrogateescape")
            return running_facts.parse(dict(line.split("=", 1) for line in text.split("\n") if line))
        except (OSError, ValueError, KeyError):
            return None

    def _make_way(self, path: Path) -> None:
        from b2d.host.file_removal import SET_ASIDE, move_aside

        move_aside(path, self.home.root / SET_ASIDE)

    def _paths(self, name: str) -> MachinePaths:
        check_name(name)
        return self.home.machine(name)


def _read(path: Path, name: str) -> "MachineSpec | None":
    try:
        content = read_bounded(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (NotRegularFileError, FileTooLargeError) as error:
        raise CorruptSpecError(f"{path} cannot be read: {error.strerror}", name) from error
    except OSError as error:
        import shlex

        hint = f"chmod -R u+rwX {shlex.quote(str(path.parent))}"
        raise B2dError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    return spec_json.parse(path, name, content)


def _locked_error(name: str, paths: MachinePaths) -> MachineLockedError:
    try:
        pid, verb = read_text_tail(paths.holder).split()
        pid = str(int(pid))
    except ValueError:
        return MachineLockedError(f"{name} is locked by another b2d", hint="try again in a moment")
    return MachineLockedError(f"{name} is locked by `b2d {verb}` (pid {pid})", hint="try again when it has finished")
