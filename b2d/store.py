"""What is kept of the machines of one home: the spec of each, what `up` found out, and the lock.

What `b2d list` of an empty home does not need is imported where it is used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.errors import B2dError, Busy, ConfigError
from b2d.files import private_folder, refusals_told, write_whole
from b2d.layout import Home, MachinePaths

if TYPE_CHECKING:
    from b2d.model import DockerEnv, MachineSpec, ProcessIdentity

SCHEMA = 1
LOCK_WAIT_S = 5.0
NAME_LIMIT = 63  # a host name's; VirtualBox and file systems allow more
NAME_SIGNS = "-_."


@dataclass(frozen=True, slots=True)
class RunningFacts:
    """What `up` found out of a machine that runs: all that shellinit and ip need, so that they ask nobody."""

    address: str
    ssh_port: int
    docker_port: int
    docker: "DockerEnv"
    process: "ProcessIdentity | None" = None


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` can be a machine's name, and so a folder's."""
    sound = name.isascii() and all(sign.isalnum() or sign in NAME_SIGNS for sign in name)
    if not sound or not name[:1].isalnum() or len(name) > NAME_LIMIT:
        raise ConfigError(
            f"{name!r} cannot be a machine's name",
            hint=f"use letters, digits and {' '.join(NAME_SIGNS)}, a letter or digit first, {NAME_LIMIT} at most",
        )


@dataclass(frozen=True, slots=True)
class MachineStore:
    """The folder machines/ of one home. Readers never wait; whoever changes a machine holds its lock."""

    home: Home
    lock_wait_s: float = LOCK_WAIT_S

    def names(self) -> list[str]:
        """The machines that have a spec, readable or not, sorted."""
        with refusals_told(self.home.machines):
            folders = list(self.home.machines.iterdir()) if self.home.machines.is_dir() else []
            names = [folder.name for folder in folders if _is_name(folder.name)]
            return sorted(name for name in names if self._paths(name).spec.is_file())

    def read(self, name: str) -> "MachineSpec | None":
        """The spec, None when there is no such machine. Raises B2dError naming a file that cannot be read."""
        path = self._paths(name).spec
        try:
            content = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise B2dError(f"{path} cannot be read: {error.strerror}") from error
        return _spec_of(path, name, content)

    def write(self, spec: "MachineSpec") -> None:
        """Keep the spec, and make the machine's folder where there is none."""
        import json

        paths = self._paths(spec.name)
        content = json.dumps({"schema": SCHEMA, **asdict(spec)}, indent=2) + "\n"
        with refusals_told(paths.spec):
            private_folder(paths.folder)
            write_whole(paths.spec, content.encode())

    def remove(self, name: str) -> None:
        """Remove the machine's folder with all that is in it; none there: nothing. The spec goes first."""
        import shutil

        paths = self._paths(name)
        with refusals_told(paths.folder):
            if paths.folder.is_dir():
                paths.spec.unlink(missing_ok=True)
                shutil.rmtree(paths.folder)

    def neighbours(self, name: str) -> "list[MachineSpec]":
        """The specs of the other machines of this home; those that cannot be read are passed over."""
        found = []
        for other in self.names():
            try:
                spec = self.read(other) if other != name else None
            except B2dError:
                continue
            if spec is not None:
                found.append(spec)
        return found

    @contextmanager
    def lock(self, name: str, verb: str) -> Iterator[None]:
        """Hold the machine for `verb`. Raises Busy, naming the holder, when another has it for too long.

        The kernel holds the lock, so it ends with its process, however that ends. Not to be taken twice.
        """
        from filelock import FileLock, Timeout

        paths = self._paths(name)
        with refusals_told(paths.lock):
            private_folder(paths.lock.parent)
            lock = FileLock(paths.lock)
            try:
                lock.acquire(timeout=self.lock_wait_s)
            except Timeout:
                raise _busy(name, paths) from None
        try:
            with refusals_told(paths.holder):
                paths.holder.write_text(f"{os.getpid()} {verb}\n")
            yield
        finally:
            paths.holder.unlink(missing_ok=True)
            lock.release()

    def write_env(self, name: str, facts: RunningFacts) -> None:
        """Keep what `up` found out, for shellinit and ip. Raises B2dError for a value with a line break."""
        path = self._paths(name).env
        lines = []
        for key, value in _env_values(facts).items():
            if "\n" in value or "\r" in value:
                raise B2dError(f"{key} holds a line break, and cannot be kept in {path}: {value!r}")
            lines.append(f"{key}={value}\n")
        with refusals_told(path):
            write_whole(path, "".join(lines).encode("utf-8", "surrogateescape"))

    def remove_env(self, name: str) -> None:
        """Forget what `up` found out; nothing there: nothing."""
        path = self._paths(name).env
        with refusals_told(path):
            path.unlink(missing_ok=True)

    def read_env(self, name: str) -> RunningFacts | None:
        """What `up` found out, None when there is nothing whole. It may be stale: only the driver knows."""
        try:
            text = self._paths(name).env.read_bytes().decode("utf-8", "surrogateescape")
            return _facts_of(dict(line.split("=", 1) for line in text.split("\n") if line))
        except (OSError, ValueError, KeyError):
            return None

    def _paths(self, name: str) -> MachinePaths:
        check_name(name)
        return self.home.machine(name)


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except ConfigError:
        return False
    return True


def _spec_of(path: Path, name: str, content: bytes) -> "MachineSpec":
    import json

    from b2d.model import MachineSpec

    try:
        kept = json.loads(content)
    except ValueError as error:
        raise B2dError(f"{path} is not JSON: {error}") from error
    if not isinstance(kept, dict) or type(kept.get("schema")) is not int:
        raise B2dError(f"{path} is not a machine's description")
    if kept.pop("schema") > SCHEMA:
        raise B2dError(f"{path} was written by a newer b2d", hint="use that version, or upgrade this one")
    for problem in _problems(kept):
        raise B2dError(f"{path}: {problem}")
    kept |= {key: tuple(value) for key, value in kept.items() if isinstance(value, list)}  # JSON knows no tuple
    spec = MachineSpec(**kept)
    if spec.name != name:
        raise B2dError(f"{path} describes the machine {spec.name!r}: the folder was moved or copied")
    return spec


def _problems(kept: dict[str, Any]) -> Iterator[str]:
    from b2d.model import MachineSpec

    known = {field.name: field for field in fields(MachineSpec)}
    for key in kept.keys() - known.keys():
        yield f"{key!r} is not known"
    for key, field in known.items():
        if key not in kept:
            if field.default is field.default_factory:  # both MISSING: it has to be there
                yield f"{key!r} is missing"
        elif not _fits(kept[key], field.type):
            yield f"{key!r} cannot be {kept[key]!r}"


def _fits(value: object, kind: object) -> bool:
    """Whether JSON's value can be a field of that type."""
    if isinstance(kind, type):
        return type(value) is kind
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _busy(name: str, paths: MachinePaths) -> Busy:
    try:
        pid, verb = paths.holder.read_text().split()
    except (OSError, ValueError):
        return Busy(f"{name} is held by another b2d", hint="try again in a moment")
    return Busy(f"{name} is held by `b2d {verb}` (pid {pid})", hint="try again when that has ended")


def _env_values(facts: RunningFacts) -> dict[str, str]:
    values = {"address": facts.address, "ssh_port": str(facts.ssh_port), "docker_port": str(facts.docker_port)}
    if facts.process is not None:
        values["pid"] = str(facts.process.pid)
        values["start_time"] = facts.process.start_time
        values["boot_id"] = facts.process.boot_id
    return values | facts.docker.variables()


def _facts_of(values: dict[str, str]) -> RunningFacts:
    from b2d.model import DockerEnv, ProcessIdentity

    process = None
    if "pid" in values:
        process = ProcessIdentity(int(values["pid"]), values["start_time"], values["boot_id"])
    return RunningFacts(
        address=values["address"],
        ssh_port=int(values["ssh_port"]),
        docker_port=int(values["docker_port"]),
        docker=DockerEnv(values["DOCKER_HOST"], values.get("DOCKER_CERT_PATH", "")),
        process=process,
    )
