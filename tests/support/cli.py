"""A shell prompt: the installed command b2d, run as a process in a home of its own."""

import os
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from b2d.paths import Home
from tests.support import fork_server

B2D = str(Path(sysconfig.get_path("scripts")) / "b2d")
LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Result:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt for commands, isolated from the user who runs the tests."""

    folder: Path  # the user's home directory
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return Home(self.folder / ".b2d")

    def full_environment(self, **more: str) -> dict[str, str]:
        """Return the environment of the commands."""
        path = f"{Path(B2D).parent}{os.pathsep}{os.environ['PATH']}"
        plain = {"HOME": str(self.folder), "PATH": path, "LANG": "C.UTF-8", "SHELL": "/bin/sh", "B2D_RESTRICT": "1"}
        return plain | self.environment | more

    def b2d(self, *arguments: str, **more: str) -> Result:
        """Run b2d with an empty stdin."""
        return self.run([B2D, *arguments], **more)

    def sh(self, script: str, **more: str) -> Result:
        """Run a line of shell."""
        return self.run(["sh", "-c", script], **more)

    def run(self, command: Sequence[str], **more: str) -> Result:
        """Run a command with an empty stdin; b2d in a forked process, where that makes no difference."""
        environment = self.full_environment(**more)
        if command[0] == B2D and fork_server.can_run(environment):
            completed = fork_server.run(command, environment, self.folder, LIMIT_S)
        else:
            completed = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIMIT_S,
                cwd=self.folder,
                env=environment,
                check=False,
            )
        output = [stream.decode("utf-8", "surrogateescape") for stream in (completed.stdout, completed.stderr)]
        return Result(completed.returncode, *output)
