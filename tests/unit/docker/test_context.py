"""The real docker client finds a machine by its context, and its other contexts stay unchanged."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.docker.context import ContextExistsError, DockerContext, remove_context, update_context
from b2d.guest import tls_certificates
from b2d.models import DockerEnv
from b2d.paths import MachinePaths
from tests.support.fakes import FakeReporter

DOCKER = DockerEnv("tcp://127.0.59.103:2376")


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DockerContext:
    """Return the context of a machine `box`, for a user with a new docker client."""
    folder = tmp_path / "it's, a home" / "machines" / "box"
    folder.mkdir(parents=True)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return DockerContext(
        MachinePaths(folder), {"PATH": "/usr/local/bin:/usr/bin:/bin", "DOCKER_CONFIG": str(tmp_path / "docker")}
    )


def client(context: DockerContext, *arguments: str) -> str:
    completed = subprocess.run(
        ["docker", "context", *arguments], env=context.environ, capture_output=True, text=True, check=True
    )
    return completed.stdout.strip()


def names(context: DockerContext) -> list[str]:
    return client(context, "ls", "--format", "{{.Name}}").split()


def with_certificates(context: DockerContext) -> DockerEnv:
    tls_certificates.ensure_certificates(context.paths, ["127.0.59.103"], datetime.now(UTC))
    return DOCKER._replace(cert_path=str(context.paths.certs))


def test_it_is_created_once_and_not_selected_unless_requested(context: DockerContext) -> None:
    assert context.put(DOCKER)
    assert not context.put(DOCKER)
    assert names(context) == ["box", "default"]
    assert client(context, "show") == "default"
    assert client(context, "inspect", "box", "--format", "{{.Endpoints.docker.Host}}") == DOCKER.host
    context.use()
    assert client(context, "show") == "box"


def test_it_follows_the_endpoint_and_certificates_of_the_machine(context: DockerContext) -> None:
    context.put(DOCKER)
    assert context.put(DOCKER._replace(host="tcp://127.0.59.104:2376"))
    secure = with_certificates(context)
    assert context.put(secure)
    assert not context.put(secure)
    for path in (context.paths.certs / "cert.pem", context.paths.certs / "key.pem"):
        path.unlink()
    with_certificates(context)
    assert context.put(secure)
    assert "cert.pem" in client(context, "inspect", "box", "--format", "{{.TLSMaterial}}")


def test_a_foreign_context_of_that_name_is_unchanged(context: DockerContext) -> None:
    client(context, "create", "box", "--description", "mine", "--docker", "host=tcp://192.0.2.1:2376")
    with pytest.raises(ContextExistsError, match="not this machine's"):
        context.put(DOCKER)
    assert not context.remove()
    assert client(context, "inspect", "box", "--format", "{{.Endpoints.docker.Host}}") == "tcp://192.0.2.1:2376"


def test_it_is_removed_even_when_selected(context: DockerContext) -> None:
    context.put(DOCKER)
    context.use()
    assert context.remove()
    assert not context.remove()
    assert (names(context), client(context, "show")) == (["default"], "default")


def test_up_and_delete_maintain_it_and_never_fail(context: DockerContext, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = FakeReporter()
    update_context(context.paths, DOCKER, reporter)
    assert names(context) == ["box", "default"]
    remove_context(context.paths)
    assert names(context) == ["default"]
    monkeypatch.setenv("PATH", "/nonexistent")
    update_context(context.paths, DOCKER, reporter)
    remove_context(context.paths)
    assert reporter.messages == []
