"""The machine as a context of the docker client's: made, never selected unasked, and nobody else's ever touched."""

import csv
import hashlib
import io
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from b2d.errors import B2dError
from b2d.formats import json_text
from b2d.host import processes
from b2d.host.files import read_bounded
from b2d.models import CommandResult, DockerEnv
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter

CLIENT = "docker"
ANSWER_S = 20.0
MATERIAL = ("ca.pem", "cert.pem", "key.pem")
OTHER_ENDPOINT = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
)  # with these the client speaks of another context than it is asked for


class ContextExistsError(B2dError):
    """The client has a context of that name which is not this machine's."""


@dataclass(frozen=True, slots=True)
class StoredContext:
    """What the client knows of a context."""

    description: str
    host: str


def context_names(paths: MachinePaths, docker: DockerEnv, reporter: Reporter) -> None:
    """What `up` does for docker's client, where there is one. That it cannot be is no reason to fail."""
    one = DockerContext(paths, os.environ)
    if one.client() is None:
        return
    try:
        with suppress(ContextExistsError):  # somebody called theirs so; `b2d context` would say it
            one.put(docker)
    except B2dError as error:
        reporter.warn(error.message)


def stale_contexts(paths: MachinePaths) -> None:
    """What `delete` does for docker's client."""
    one = DockerContext(paths, os.environ)
    if one.client() is not None:
        with suppress(B2dError):
            one.remove()


@dataclass(frozen=True, slots=True)
class DockerContext:
    """One machine's, under its name; which it is, its description tells."""

    paths: MachinePaths
    environ: Mapping[str, str]

    @property
    def name(self) -> str:
        """The machine's own."""
        return self.paths.folder.name

    @property
    def description(self) -> str:
        """What marks it as this machine's, of this home."""
        return f"b2d: {self.paths.folder}"

    def client(self) -> str | None:
        """Where docker's client is, None without one."""
        return shutil.which(CLIENT, path=self.environ.get("PATH"))

    def put(self, docker: DockerEnv) -> bool:
        """Make it as `docker` says; False when it is so already. Raises ContextExistsError, and B2dError."""
        kept = self._kept()
        if kept is not None and kept.description != self.description:
            said = f"docker has a context {self.name} that is not this machine's"
            raise ContextExistsError(said, hint=f"docker context rm {self.name}")
        if kept is not None and kept.host == docker.host and self._has_material(docker):
            return False
        fields = {"host": docker.host}
        if docker.cert_path:
            fields |= {Path(name).stem: str(Path(docker.cert_path) / name) for name in MATERIAL}
        verb = "create" if kept is None else "update"
        self._ask(verb, self.name, "--description", self.description, "--docker", _line(fields))
        return True

    def use(self) -> None:
        """Select it for the person whose client it is. Raises B2dError."""
        self._ask("use", self.name)

    def remove(self) -> bool:
        """Take it away if it is this machine's; False when it was not there. A selected one is so no more."""
        kept = self._kept()
        if kept is None or kept.description != self.description:
            return False
        if self._run("rm", self.name).exit_code != 0:
            self._ask("use", "default")
            self._ask("rm", "--force", self.name)
        return True

    @property
    def _store(self) -> Path:
        home = self.environ.get("DOCKER_CONFIG") or Path(self.environ.get("HOME") or Path.home()) / ".docker"
        return Path(home) / "contexts"

    def _kept(self) -> StoredContext | None:
        """What the client keeps of it: its file is read, as starting the client for nothing would slow every `up`."""
        try:
            found = json_text.parse(read_bounded(self._store / "meta" / self._digest / "meta.json"))
            return StoredContext(
                str(found["Metadata"].get("Description", "")), str(found["Endpoints"]["docker"]["Host"])
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _has_material(self, docker: DockerEnv) -> bool:
        theirs = self._store / "tls" / self._digest / "docker"
        try:
            pairs = [(theirs / name, Path(docker.cert_path) / name) for name in MATERIAL if docker.cert_path]
            return all(read_bounded(one) == read_bounded(other) for one, other in pairs)
        except OSError:
            return False

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def _run(self, *arguments: str) -> CommandResult:
        environment = {name: value for name, value in self.environ.items() if name not in OTHER_ENDPOINT}
        return processes.run(
            [self.client() or CLIENT, "context", *arguments], timeout_s=ANSWER_S, environment=environment
        )

    def _ask(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done.exit_code != 0:
            said = done.stderr.decode(errors="replace").strip()
            last = said.splitlines()[-1] if said else f"exit code {done.exit_code}"
            raise B2dError(f"docker context {arguments[0]}: {last}", details=said)


def _line(fields: Mapping[str, str]) -> str:
    """As the client reads them: CSV, so that a path may have a comma."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(f"{name}={value}" for name, value in fields.items())
    return text.getvalue()
