"""A password is in no log of b2d, and need not be in a command line, which every user of this host can read."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from b2d.cli.unexpected_errors import report_unexpected
from b2d.guest import seed
from b2d.machine_store.store import MachineStore
from b2d.models import Access
from tests.support.cli import B2D, Prompt
from tests.support.fakes import a_spec


@pytest.mark.parametrize(
    "typed",
    [
        ["config", "set", "password=hunter22"],
        ["config", "set", "password", "hunter22"],
        ["config", "set", "http_proxy=http://me:hunter22@proxy:3128"],
        ["config", "set", "http_proxy", "me:hunter22@proxy:3128"],
        ["ssh", "curl", "-H", "Authorization: Bearer hunter22", "https://example.com/?sig=hunter22"],
        ["run", "docker", "login", "--password", "hunter22"],
    ],
)
def test_typed_secrets_are_not_logged(typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("B2D_HOME", str(tmp_path))
    report_unexpected(RuntimeError(f"no: {typed[-1]}"), typed)
    log = (tmp_path / "b2d.log").read_text()
    assert "hunter22" not in log
    assert typed[0] in log and "RuntimeError: no" in log


def test_a_password_is_read_from_stdin(tmp_path: Path) -> None:
    at = Prompt(tmp_path)
    command = [B2D, "config", "set", "password"]
    subprocess.run(
        command, input=b"hunter 22\n", env=at.full_environment(), cwd=tmp_path, check=True, capture_output=True
    )
    assert at.home.config.read_text() == 'password = "hunter 22"\n'
    assert at.home.config.stat().st_mode & 0o077 == 0
    assert "the value of password is missing" in at.b2d("config", "set", "password").err


def test_support_redacts_overridden_and_previous_passwords(tmp_path: Path) -> None:
    """One is in config.toml behind a variable that overrides it; one was given to a machine before it changed."""
    at = Prompt(tmp_path, {"B2D_PASSWORD": "hunter 21"})
    assert at.b2d("config", "set", "password=hunter 22").code == 0
    MachineStore(at.home).write(a_spec(name="box"))
    paths = at.home.machine("box")
    new_seed = seed.Seed("box", "", b"", None, Access(True, "hunter 23"), [], {})
    paths.seed.write_bytes(seed.image(new_seed))
    paths.serial_log.write_text("typed: hunter 21\ntyped: hunter 22\ntyped: hunter 23\n")
    answer = at.b2d("support", "out.tgz")
    assert answer.code == 0, answer.err
    with tarfile.open(tmp_path / "out.tgz") as archive:
        log = archive.extractfile("b2d-support/machines/box/serial.log")
        assert log is not None and log.read() == b"typed: ***\n" * 3
