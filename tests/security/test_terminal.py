"""No text from a container, a guest, an image, a server or a folder controls the terminal (case M8)."""

import json
import os
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from b2d.cli import main
from b2d.docker.published_ports import PublishedPort
from b2d.errors import B2dError
from b2d.host.process_identity import identify
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import DockerEnv, Snapshot
from b2d.paths import Home
from tests.security.hostile import EVIL, LONG, OBEYED, Show, raising
from tests.support.cli import Prompt
from tests.support.fakes import a_spec
from tests.support.http_server import respond_with, serving


@pytest.mark.parametrize("name", [EVIL, LONG], ids=["evil", "long"])
def test_ports(show: Show, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rows = [
        PublishedPort(name, "tcp", 80, "127.0.59.103", 80, name),
        PublishedPort("web", "tcp", 81, "127.0.59.103", 81, "open"),
    ]
    monkeypatch.setattr("b2d.app.inspect.ports", lambda _app: rows)
    _, out, _ = show("ports")
    assert len(out.splitlines()) == 3 and len(out) < 10_000
    _, out, _ = show("ports", "--json")
    assert json.loads(out)[0]["container"] == name


def test_images(show: Show, home: Home) -> None:
    home.images.mkdir()
    facts = {"version": LONG, "size": 1, "sources": {LONG: 1.0}, "kernel": None, "initrd": None, "arguments": EVIL}
    facts |= {"root": None, "stored": None, "format": 2, "suites": [{"name": EVIL, "date": EVIL, "state": "missing"}]}
    home.image("0" * 64).facts.write_text(json.dumps(facts))
    code, out, _ = show("iso", "list")
    assert code == 0 and len(out.splitlines()) == 2 and len(out) < 4000
    _, out, _ = show("iso", "list", "--json")
    assert json.loads(out)[0]["version"] == LONG


def test_machines_and_their_descriptions(show: Show, home: Home) -> None:
    MachineStore(home).write(a_spec("box", address=EVIL))
    _, out, err = show("list")
    assert len(out.splitlines()) == 2 and "'address' cannot be" in err
    MachineStore(home).write(a_spec("box", driver=EVIL, source=EVIL))
    _, out, err = show("list")
    assert len(out.splitlines()) == 2 and "does not support the hypervisor" in err
    for verb in ("status", "info", "stop", "up", "delete", "set memory=700", "disk", "snapshot list", "ip"):
        code, out, err = show(*verb.split(), "--vm", "box", "-v")
        assert code != 0 and out == "", verb
        assert "b2d: " in err
    home.machine("box").spec.write_text(EVIL)
    show("list")
    show("info", "--vm", "box", "-v", "--json")
    home.machine("box").spec.write_text(json.dumps({"schema": 1, EVIL: 1}))
    show("status", "--vm", "box", "-v")


def test_endpoints_of_another_user_s_machine(home: Home, tmp_path: Path) -> None:
    """A reader of another home gets its owner's text, also from the fast commands."""
    prompt, process, odd = Prompt(tmp_path), identify(os.getpid()), "\x1b]0;title\x07\x1b[2J"
    docker = DockerEnv("tcp://127.0.59.103:2376", f"/{odd}/certs")
    facts = RunningFacts("127.0.59.103", 2022, 2376, docker, process)
    MachineStore(home).write(a_spec())
    for address in (facts.address, odd):
        MachineStore(home).write_env(a_spec().name, facts._replace(address=address))
        for typed in ("b2d ip", "b2d shellinit", "b2d shellinit --shell fish", "b2d shellinit --json"):
            result = prompt.sh(f"script -qec '{typed}' /dev/null", B2D_HOME=str(home.root))
            assert not set(result.out + result.err) & {"\x1b", "\x07"}, typed


def test_snapshots(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2d.machine.snapshots.SnapshotCommands.all", lambda _self: [Snapshot(LONG, 0, 1)])
    _, out, _ = show("snapshot", "list")
    assert len(out.splitlines()) == 2
    _, out, _ = show("snapshot", "list", "--json")
    assert json.loads(out)[0]["name"] == LONG


def test_doctor(show: Show, home: Home) -> None:
    (home.machines / EVIL.replace("/", "")).mkdir()
    (home.images).mkdir()
    (home.images / f".{EVIL[:40]}.unfinished").touch()
    os.utime(home.images / f".{EVIL[:40]}.unfinished", (0, 0))
    _, out, _ = show("doctor")
    assert "is not a machine" in out and "stale files" in out
    _, out, _ = show("doctor", "--json")
    assert any("\x1b" in finding["message"] for finding in json.loads(out))


@pytest.mark.parametrize("key", ["image", "driver", "mirror", "http_proxy", "share", "vm"])
def test_settings(show: Show, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("B2D_MIRROR", "http://127.0.0.1:9/debian")  # no server: an image would take minutes
    monkeypatch.setenv(f"B2D_{key.upper()}", EVIL)
    for arguments in (("status", "-v"), ("config", "--json"), ("config", "get", key, "--json"), ("download", "-v")):
        show(*arguments)


def test_a_value_of_a_setting_is_passed_to_programs_unchanged(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("B2D_IMAGE", EVIL)
    main._run(["config", "get", "image"])
    assert capsys.readouterr().out == EVIL + "\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    main._run(["config", "get", "image"])
    assert capsys.readouterr().out == "a\nb2d: done\n31mcgpjd\tz" + "\N{PILE OF POO}" * 3 + "\n"


@pytest.mark.parametrize(
    ("where", "typed"),
    [
        ("b2d.machine.disk_usage.DataDisk.use", "disk"),
        ("b2d.app.inspect.ports", "ports"),
        ("b2d.app.inspect.describe_machine", "info"),
        ("b2d.app.inspect.read_log", "logs"),
        ("b2d.machine.lifecycle.Machine.state", "status"),
        ("b2d.machine.lifecycle.Machine.up", "up"),
        ("b2d.machine.lifecycle.Machine.init", "init"),
        ("b2d.machine.snapshots.SnapshotCommands.create", "snapshot create one"),
        ("b2d.image.acquire.ImageAcquirer.update", "download"),
        ("b2d.image.acquire.ImageAcquirer.build_to", "iso build"),
        ("b2d.app.import_machine.find_candidates", "import"),
    ],
)
@pytest.mark.parametrize("text", [EVIL, LONG], ids=["evil", "long"])
def test_an_error_of_each_layer(  # it may quote VirtualBox, Docker, a mirror or the guest
    show: Show, home: Home, monkeypatch: pytest.MonkeyPatch, where: str, typed: str, text: str
) -> None:
    MachineStore(home).write(a_spec())
    for error in (B2dError(text, hint=text, details=text), RuntimeError(text), OSError(5, text, text)):
        monkeypatch.setattr(where, raising(error))
        for more in ((), ("-v",), ("--json",), ("-q",)):
            code, _, err = show(*typed.split(), *more)
            assert code != 0
            assert "-v" in more or len(err.splitlines()) <= 4


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_a_warning_of_a_reporter(show: Show, monkeypatch: pytest.MonkeyPatch, quiet: Sequence[str]) -> None:
    from b2d.image.acquire import ImageAcquirer

    def warns(supply: ImageAcquirer, source: str) -> object:
        supply.reporter.warn(EVIL)
        supply.reporter.note(EVIL)
        with suppress(ValueError), supply.reporter.step(EVIL):
            raise ValueError
        raise B2dError(source)

    monkeypatch.setattr(ImageAcquirer, "update", warns)
    _, _, err = show("download", "boot2docker", *quiet)
    assert len(err.splitlines()) == (2 if quiet else 4)


def test_the_response_of_a_server(show: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path) as web:
        web.odd = {"/debian/dists/trixie/InRelease": respond_with(500, EVIL.encode())}
        monkeypatch.setenv("B2D_MIRROR", f"{web.url}/debian")
        for typed in (("download", "debian", "-v"), ("iso", "build", "-o", str(tmp_path / "a.iso"), "-v")):
            code, _, err = show(*typed)
            assert code == 7 and "(500)" in err


def test_usage_errors(show: Show) -> None:
    for typed in ((EVIL,), ("up", f"--{EVIL}"), ("config", "get", EVIL), ("download", EVIL), ("logs", "-n", EVIL)):
        code, _, _ = show(*typed)
        assert code == 2


def test_the_log_of_python_programs_has_one_line_per_message(caplog: pytest.LogCaptureFixture) -> None:
    from b2d.reporting.log import LogReporter

    with caplog.at_level("INFO", "b2d"):
        LogReporter().warn(EVIL)
        LogReporter().note(EVIL)
        with LogReporter().step(EVIL):
            pass
    assert len(caplog.messages) == 3
    for message in caplog.messages:
        assert not {unicodedata.category(char) for char in message} & OBEYED
