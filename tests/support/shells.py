"""Real shells: they run scripts and show the environment of the programs started there."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from b2d.shell.detect import FAMILIES
from b2d.shell.export import EVALUATION

LIMIT_S = 120
SH = {  # the command that starts each on a script, without the user's start-up files
    "dash": ["dash"],
    "bash": ["bash", "--norc"],
    "zsh": ["zsh", "-f"],
    "ksh": ["ksh"],
    "busybox": ["busybox", "ash"],
}
OTHERS = {
    "fish": ["fish", "--no-config"],
    "tcsh": ["tcsh", "-f"],
    "bsd-csh": ["bsd-csh", "-f"],
    "nu": ["nu", "-n"],
}
COMMANDS = SH | OTHERS


@dataclass(frozen=True, slots=True)
class RealShell:
    """A real shell, with a folder for its scripts and the path of programs."""

    name: str
    folder: Path
    path: str = os.environ["PATH"]

    @property
    def family(self) -> str:
        return FAMILIES[self.name]

    def command_line(self, command: str) -> str:
        """Return the line that evaluates the output of a command."""
        return EVALUATION[self.family].format(command)

    def environments_after(self, lines: Iterable[str], environ: Mapping[str, str]) -> list[dict[str, str]]:
        """Return the environment of a program started after each of the lines."""
        show = ("^" if self.name == "nu" else "") + "/usr/bin/env -0 ENDS=here"
        script = self.folder / "script"
        script.write_text("".join(f"{line}\n{show}\n" for line in lines))
        known = {"PATH": self.path, "HOME": str(self.folder), "LANG": "C.UTF-8", **environ}
        completed = subprocess.run(
            ["/usr/bin/env", *COMMANDS[self.name], script], env=known, capture_output=True, timeout=LIMIT_S, check=False
        )
        assert not completed.stderr, completed.stderr.decode(errors="replace")
        stages = completed.stdout.decode("utf-8", "surrogateescape").split("ENDS=here\0")[:-1]
        return [dict(entry.split("=", 1) for entry in stage.split("\0") if "=" in entry) for stage in stages]

    def evaluate(self, texts: Iterable[str], environ: Mapping[str, str], form: str = "") -> list[dict[str, str]]:
        """Return the environment after each of the texts, evaluated in turn by one shell."""
        lines = []
        for number, text in enumerate(texts):
            path = self.folder / f"text{number}"
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
            lines.append((form or EVALUATION[self.family]).format(f"cat {path}"))
        return self.environments_after(lines, environ)
