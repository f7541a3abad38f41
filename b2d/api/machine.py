"""The API for Python programs: `from b2d import Machine`.

Its methods print nothing, end no process, and raise B2dError.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from b2d.api.storage import MachineStorage
from b2d.app import wiring
from b2d.app.wiring import App
from b2d.config import loader
from b2d.errors import ConfigError
from b2d.reporting.log import LogReporter

if TYPE_CHECKING:
    from typing import Unpack

    from b2d.api.options import MachineChanges, MachineOptions
    from b2d.docker.published_ports import PublishedPort
    from b2d.machine.image_upgrade import ImageUpgrade, UpgradeResult
    from b2d.machine.reconfigure import Change
    from b2d.machine_store.running_facts import RunningFacts
    from b2d.models import CommandResult, Image, MachineState

COMMAND_S = 600.0
OUTPUT_LIMIT = 64 << 20  # bytes of a command's output, which is held in memory


class Machine(MachineStorage):
    """A machine by its name, which need not exist. A method whose outcome is reached already does nothing.

    Settings have the precedence of command line options. Threads may share an instance: two that change a machine at
    once behave as two commands, of which the second raises MachineLockedError after five seconds.
    """

    def __init__(
        self, name: str = "", *, home: str | os.PathLike[str] | None = None, **settings: "Unpack[MachineOptions]"
    ):
        """Default to the machine that the settings name, and to the home $B2D_HOME. Raises ConfigError."""
        for key in settings:
            loader.check_key(key)
        environ = dict(os.environ) | ({} if home is None else {"B2D_HOME": os.fspath(home)})
        self._app = wiring.make_app(environ, {**settings, "vm": name or None}, LogReporter())
        self._before: list[MachineState] = []  # of each `with`

    @classmethod
    def of(cls, app: App) -> Self:
        """Return the machine of an existing app."""
        machine = cls.__new__(cls)
        machine._app, machine._before = app, []
        return machine

    @classmethod
    def all(cls, home: str | os.PathLike[str] | None = None) -> list[Self]:
        """Return the machines of a home, by name."""
        return [cls(name, home=home) for name in cls(home=home)._app.store.names()]

    def __repr__(self) -> str:
        """Return the machine's name and home."""
        return f"Machine({self.name!r}, home={str(self._app.home.root)!r})"

    @property
    def name(self) -> str:
        """The machine's name, unique in its home."""
        return self._app.settings.vm

    @property
    def folder(self) -> Path:
        """The folder of the machine's files."""
        return self._app.home.machine(self.name).folder

    @property
    def socket(self) -> Path:
        """The Unix socket of its Docker, served while it is up."""
        return self._app.home.machine(self.name).docker_socket

    def state(self) -> "MachineState":
        """Return absent, stopped, starting, running, paused, saved, stopping or crashed."""
        return self._verbs.state()

    def info(self) -> dict[str, object]:
        """Return configuration and state, as `b2d info` prints them. Raises MachineNotFoundError."""
        from b2d.app import inspect

        return inspect.describe_machine(self._app, self.name)

    def init(self) -> bool:
        """Create the machine, and its image if there is none; return False when the machine exists."""
        from b2d.machine import exposure

        created = self._verbs.init(self._app)
        if created:
            exposure.report(self._verbs.exposures(booted=False), self._app.reporter)
        return created

    def up(self) -> "RunningFacts":
        """Start the machine, creating it if needed, and wait until Docker answers."""
        return self._verbs.up(self._app)

    def restart(self) -> "RunningFacts":
        """Shut the machine down and start it again."""
        return self._verbs.restart()

    def reset(self) -> "RunningFacts":
        """Cut the power and start the machine again."""
        return self._verbs.reset()

    def stop(self) -> bool:
        """Shut the machine down cleanly; return False when it is off. A saved machine stays saved."""
        return self._verbs.stop()

    def poweroff(self) -> bool:
        """Cut the power; return False when the machine is off."""
        return self._verbs.poweroff()

    def save(self) -> bool:
        """Save the state to disk and end the machine; return False when it is saved already."""
        return self._verbs.save()

    def delete(self) -> bool:
        """Delete the machine with all its data, without confirmation; return False when there was none."""
        existed = self.folder.exists()
        self._verbs.delete()
        return existed

    def facts(self) -> "RunningFacts":
        """Return the machine's addresses and ports.

        Raises InvalidStateError when it is not running, as do the methods below that need a running machine.
        """
        return self._verbs.facts()

    def ip(self) -> str:
        """Return the machine's IP address."""
        return self.facts().address

    def docker_env(self) -> dict[str, str]:
        """Return the environment variables that a Docker client needs."""
        return self.facts().docker.variables()

    def ports(self) -> "list[PublishedPort]":
        """Return the ports that containers publish, with their addresses on this host."""
        from b2d.app import inspect

        return inspect.ports(self._app)

    def ssh(self, *command: str, timeout_s: float = COMMAND_S) -> "CommandResult":
        """Run a command in the guest and return its result, whatever its exit code.

        A single argument is a line for the shell; several are passed as they are. Raises WaitTimeoutError.
        """
        from b2d.guest.ssh.client import command_line

        if not command:
            raise ConfigError("ssh needs a command to run", hint='ssh("COMMAND")')
        with closing(self._verbs.guest()) as guest:
            return guest.run(command_line(command), timeout_s, OUTPUT_LIMIT)

    def ssh_config(self) -> str:
        """Return a configuration block for OpenSSH, with the machine's name as host."""
        from b2d.guest.ssh.openssh_config import config_block

        facts = self.facts()
        return config_block(self.name, facts.address, facts.ssh_port, self._verbs.paths)

    def logs(self, which: str = "console", lines: int | None = None) -> str:
        """Return the last lines, or all, of the log `console`, `docker`, `hypervisor` or `b2d`."""
        from b2d.app import inspect

        return inspect.read_log(self._app, which, lines).decode("utf-8", "replace")

    def screenshot(self) -> bytes:
        """Return the machine's screen as a PNG."""
        return self._verbs.screenshot()

    def set(self, **changes: "Unpack[MachineChanges]") -> "list[Change]":
        """Change an existing machine and return the changes. Its data is kept."""
        from b2d.machine.reconfigure import apply_changes, requested_changes

        return apply_changes(self._verbs, requested_changes(changes)).changes

    def upgrade(self, *, image: str = "", saved_too: bool = False) -> "UpgradeResult":
        """Boot the newest image; if it does not start, go back to the old one and raise B2dError.

        With `image`, a source, the machine follows that one from now on.
        A saved machine would have to be started and stopped, which needs `saved_too`; raises ConfigError without.
        """

        def newest(source: str) -> "Image":
            return self._app.supply.update(source)[0]

        from b2d.image.source import describe_source

        return self._image_upgrade(saved_too).upgrade(newest, describe_source(image) if image else "")

    def rollback(self, *, saved_too: bool = False) -> "UpgradeResult":
        """Go back to the machine's previous image."""
        return self._image_upgrade(saved_too).rollback()

    def __enter__(self) -> Self:
        """Start the machine. Raises B2dError, and restores its previous state then."""
        before = self.state()
        try:
            self.up()
        except BaseException:
            self.put_back(before)
            raise
        self._before.append(before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous state: running, saved, or else stopped. The machine is never deleted."""
        self.put_back(self._before.pop())

    @contextmanager
    def temporary(self) -> Iterator[Self]:
        """Act as `with` on the machine, but delete a machine afterwards that did not exist before, with its data."""
        if self.state() != "absent" or self.folder.exists():
            with self:
                yield self
            return
        try:
            self.up()
            yield self
        finally:
            self.delete()

    def put_back(self, before: "MachineState | str") -> None:
        """Bring a running machine back to the state `before`, unless that would lose data."""
        if before in ("running", "starting", "paused") or self.state() == "absent":
            return
        if before == "saved":
            self.save()
        else:
            self.stop()

    def _image_upgrade(self, saved_too: bool) -> "ImageUpgrade":
        from b2d.machine.image_upgrade import ImageUpgrade

        def confirm(consequence: str) -> None:
            if not saved_too:
                raise ConfigError(consequence, hint="saved_too=True")

        return ImageUpgrade(self._verbs, confirm)
