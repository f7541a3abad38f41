"""The machine's context in the docker client: created, selected only on request; other contexts are never changed."""

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
CLIENT_S = 20.0
CERTIFICATE_FILES = ("ca.pem", "cert.pem", "key.pem")
OVERRIDES = ("DOCKER_HOST", "DOCKER_CONTEXT")  # with these set, the client uses another context than the named one


class ContextExistsError(B2dError):
    """The client has a context of the same name that is not this machine's."""


@dataclass(frozen=True, slots=True)
class StoredContext:
    """A context as the client stores it."""

    description: str
    host: str


def update_context(paths: MachinePaths, docker: DockerEnv, reporter: Reporter) -> None:
    """Create or update the machine's context after `up`, if there is a docker client; failures are warnings."""
    docker_context = DockerContext(paths, os.environ)
    if docker_context.client() is None:
        return
    try:
        with suppress(ContextExistsError):  # another context has the name; `b2d context` reports that
            docker_context.put(docker)
    except B2dError as error:
        reporter.warn(error.message)


def remove_context(paths: MachinePaths) -> None:
    """Remove the machine's context after `delete`, if there is a docker client; failures are ignored."""
    docker_context = DockerContext(paths, os.environ)
    if docker_context.client() is not None:
        with suppress(B2dError):
            docker_context.remove()


@dataclass(frozen=True, slots=True)
class DockerContext:
    """A machine's context, which has the machine's name and is recognised by its description."""

    paths: MachinePaths
    environ: Mapping[str, str]

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.paths.folder.name

    @property
    def description(self) -> str:
        """The description, which marks the context as this machine's, of this home."""
        return f"b2d: {self.paths.folder}"

    def client(self) -> str | None:
        """Return the path of the docker client, None without one."""
        return shutil.which(CLIENT, path=self.environ.get("PATH"))

    def put(self, docker: DockerEnv) -> bool:
        """Create or update the context for `docker`; return False when it is current. Raises ContextExistsError."""
        stored = self._stored()
        if stored is not None and stored.description != self.description:
            raise ContextExistsError(
                f"docker has a context {self.name} that is not this machine's", hint=f"docker context rm {self.name}"
            )
        if stored is not None and stored.host == docker.host and self._has_certificates(docker):
            return False
        fields = {"host": docker.host}
        if docker.cert_path:
            fields |= {Path(name).stem: str(Path(docker.cert_path) / name) for name in CERTIFICATE_FILES}
        verb = "create" if stored is None else "update"
        self._run_or_raise(verb, self.name, "--description", self.description, "--docker", _line(fields))
        return True

    def use(self) -> None:
        """Select the context in the client. Raises B2dError."""
        self._run_or_raise("use", self.name)

    def remove(self) -> bool:
        """Remove the context, deselecting it if necessary; return False when it is not this machine's or not there."""
        stored = self._stored()
        if stored is None or stored.description != self.description:
            return False
        if self._run("rm", self.name).exit_code != 0:
            self._run_or_raise("use", "default")
            self._run_or_raise("rm", "--force", self.name)
        return True

    @property
    def _store(self) -> Path:
        home = self.environ.get("DOCKER_CONFIG") or Path(self.environ.get("HOME") or Path.home()) / ".docker"
        return Path(home) / "contexts"

    def _stored(self) -> StoredContext | None:
        """Read the context from the client's file: running the client would slow every `up`."""
        try:
            document = json_text.parse(read_bounded(self._store / "meta" / self._digest / "meta.json"))
            return StoredContext(
                str(document["Metadata"].get("Description", "")), str(document["Endpoints"]["docker"]["Host"])
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _has_certificates(self, docker: DockerEnv) -> bool:
        folder = self._store / "tls" / self._digest / "docker"
        try:
            pairs = [(folder / name, Path(docker.cert_path) / name) for name in CERTIFICATE_FILES if docker.cert_path]
            return all(read_bounded(stored) == read_bounded(current) for stored, current in pairs)
        except OSError:
            return False

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def _run(self, *arguments: str) -> CommandResult:
        environment = {name: value for name, value in self.environ.items() if name not in OVERRIDES}
        return processes.run(
            [self.client() or CLIENT, "context", *arguments], timeout_s=CLIENT_S, environment=environment
        )

    def _run_or_raise(self, *arguments: str) -> None:
        result = self._run(*arguments)
        if result.exit_code != 0:
            stderr = result.stderr.decode(errors="replace").strip()
            last = stderr.splitlines()[-1] if stderr else f"exit code {result.exit_code}"
            raise B2dError(f"docker context {arguments[0]}: {last}", details=stderr)


def _line(fields: Mapping[str, str]) -> str:
    """Render fields as the client parses them: CSV, so that a path may contain a comma."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(f"{name}={value}" for name, value in fields.items())
    return text.getvalue()
