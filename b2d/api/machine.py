"""The verbs for Python programs: `from b2d import Machine`. They print nothing, end no process, and raise B2dError."""

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
    from b2d.machine_store.store import RunningFacts
    from b2d.models import CommandResult, Image, MachineState

COMMAND_S = 600.0
OUTPUT_LIMIT = 64 << 20  # bytes of a command's output that are kept in memory


class Machine(MachineStorage):
    """One machine by its name, which need not exist. A verb that is fulfilled already is fine.

    Settings count as options of the command line do. Threads may share it: two that change one machine at once are
    as two commands, of which the second raises MachineLockedError after five seconds.
    """

    def __init__(
        self, name: str = "", *, home: str | os.PathLike[str] | None = None, **settings: "Unpack[MachineOptions]"
    ):
        """Raises ConfigError. Without a name it is the one that the settings name; without a home, $B2D_HOME's."""
        for key in settings:
            loader.check_key(key)
        environ = dict(os.environ) | ({} if home is None else {"B2D_HOME": os.fspath(home)})
        self._app = wiring.make_app(environ, {**settings, "vm": name or None}, LogReporter())
        self._before: list[MachineState] = []  # of each `with`

    @classmethod
    def of(cls, it: App) -> Self:
        """The machine of an app that is put together already."""
        made = cls.__new__(cls)
        made._app, made._before = it, []
        return made

    @classmethod
    def all(cls, home: str | os.PathLike[str] | None = None) -> list[Self]:
        """Those of a home, by name."""
        return [cls(name, home=home) for name in cls(home=home)._app.store.names()]

    def __repr__(self) -> str:
        return f"Machine({self.name!r}, home={str(self._app.home.root)!r})"

    @property
    def name(self) -> str:
        """Its own, in its home."""
        return self._app.settings.vm

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self._app.home.machine(self.name).folder

    @property
    def socket(self) -> Path:
        """Leads to its Docker while it is up."""
        return self._app.home.machine(self.name).docker_socket

    def state(self) -> "MachineState":
        """How it is, as a word: absent, stopped, starting, running, paused, saved, stopping, crashed."""
        return self._verbs.state()

    def info(self) -> dict[str, object]:
        """All that is known of it. Raises MachineNotFoundError."""
        from b2d.app import inspect

        return inspect.describe_machine(self._app, self.name)

    def init(self) -> bool:
        """Make it, and its image first where there is none; False when it is there."""
        from b2d.machine import exposure

        made = self._verbs.init(self._app)
        if made:
            exposure.report(self._verbs.exposures(booted=False), self._app.reporter)
        return made

    def up(self) -> "RunningFacts":
        """Start it, or make it first; returns when Docker answers."""
        return self._verbs.up(self._app)

    def restart(self) -> "RunningFacts":
        """Stop, and up again."""
        return self._verbs.restart()

    def reset(self) -> "RunningFacts":
        """Cut the power, and up again."""
        return self._verbs.reset()

    def stop(self) -> bool:
        """Power off, cleanly; False when it was off. A saved machine stays saved."""
        return self._verbs.stop()

    def poweroff(self) -> bool:
        """Cut the power; False when it was off."""
        return self._verbs.poweroff()

    def save(self) -> bool:
        """Write its state to disk and end it; False when it was saved."""
        return self._verbs.save()

    def delete(self) -> bool:
        """Remove it with all its data, without asking; False when there was nothing."""
        there = self.folder.exists()
        self._verbs.delete()
        return there

    def facts(self) -> "RunningFacts":
        """Where it is reached. Raises InvalidStateError when it does not run; the others below too."""
        return self._verbs.facts()

    def ip(self) -> str:
        """The address at which it is reached."""
        return self.facts().address

    def docker_env(self) -> dict[str, str]:
        """The variables that a Docker client needs."""
        return self.facts().docker.variables()

    def ports(self) -> "list[PublishedPort]":
        """What containers publish, and where that is on this host."""
        from b2d.app import inspect

        return inspect.ports(self._app)

    def ssh(self, *command: str, timeout_s: float = COMMAND_S) -> "CommandResult":
        """Run a command in it, whatever its exit code: one argument is a shell's line, several arrive as they are.

        Raises WaitTimeoutError.
        """
        from b2d.guest.ssh.client import command_line

        if not command:
            raise ConfigError("there is no command to run", hint='ssh("COMMAND")')
        with closing(self._verbs.guest()) as guest:
            return guest.run(command_line(command), timeout_s, OUTPUT_LIMIT)

    def ssh_config(self) -> str:
        """A block for OpenSSH's configuration, in which the machine has its own name."""
        from b2d.guest.ssh.openssh_config import config_block

        facts = self.facts()
        return config_block(self.name, facts.address, facts.ssh_port, self._verbs.paths)

    def logs(self, which: str = "console", lines: int | None = None) -> str:
        """What was written down: `console`, `docker`, `hypervisor` or `b2d`; the last lines, or all."""
        from b2d.app import inspect

        return inspect.read_log(self._app, which, lines).decode("utf-8", "replace")

    def screenshot(self) -> bytes:
        """Its screen, as a PNG."""
        return self._verbs.screenshot()

    def set(self, **changes: "Unpack[MachineChanges]") -> "list[Change]":
        """Change one that is there; what is otherwise now. Its data stays."""
        from b2d.machine.reconfigure import apply_changes, requested_changes

        return apply_changes(self._app.store, self._app.driver, self.name, requested_changes(changes)).changes

    def upgrade(self, *, saved_too: bool = False) -> "UpgradeResult":
        """Boot the newest image; where it does not come up, go back and raise B2dError.

        One that is saved would be started and stopped for that: only with `saved_too`, else ConfigError.
        """

        def newest(source: str) -> "Image":
            return self._app.supply.update(source)[0]

        return self._exchange(saved_too).upgrade(newest)

    def rollback(self, *, saved_too: bool = False) -> "UpgradeResult":
        """Go back to the image that it had before."""
        return self._exchange(saved_too).rollback()

    def __enter__(self) -> Self:
        """Up. Raises B2dError, and then it is as it was."""
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
        """As it was: one that ran runs on, a saved one is saved, every other is stopped. None is deleted."""
        self.put_back(self._before.pop())

    @contextmanager
    def temporary(self) -> Iterator[Self]:
        """As `with` alone, but a machine that was not there before is deleted afterwards with its data."""
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
        """Bring it to the state `before` from a running one, as far as nothing is lost by that."""
        if before in ("running", "starting", "paused") or self.state() == "absent":
            return
        if before == "saved":
            self.save()
        else:
            self.stop()

    def _exchange(self, saved_too: bool) -> "ImageUpgrade":
        from b2d.machine.image_upgrade import ImageUpgrade

        def agree(what: str) -> None:
            if not saved_too:
                raise ConfigError(what, hint="saved_too=True")

        it = self._app
        return ImageUpgrade(self._verbs, it.store, it.images, it.driver, agree)
