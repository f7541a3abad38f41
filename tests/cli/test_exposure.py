"""Reports of init, up, status and doctor on who can reach a machine and where: one line each, on stderr."""

import json
import sys
from collections.abc import Callable, Iterator

import pytest

from b2d.cli import main
from b2d.config import loader
from b2d.host_agent import control
from b2d.host_agent.report import DOCKER, DOCKER_SOCKET, SSH, Refusal
from b2d.machine.lifecycle import Machine
from b2d.models import MachineSpec, MachineState
from b2d.reporting import terminal
from tests.support.fake_machine import ADDRESS, Box, FakeServices, host_of
from tests.support.fake_machine import DOCKER as DOCKER_PORT
from tests.support.fake_machine import SSH as SSH_PORT
from tests.support.fakes import FakeReporter
from tests.unit.api.test_machine import BoxApp

BY_TCP = f"tcp://{ADDRESS}:{DOCKER_PORT}"
LEADS = (
    f"QEMU itself forwards {ADDRESS}:{SSH_PORT} to the SSH server of box"  # the fake has a forward, as VirtualBox does
)
BUSY = f"{LEADS}: every user of this host can connect, but needs the machine's key to log in"
EVERYBODY = f"{LEADS}, which accepts the well-known password tcuser: every user of this host can log in"
TAKEN = {
    service: Refusal(service, place, "nc, pid 5 uses that port")
    for service, place in ((SSH, f"{ADDRESS}:{SSH_PORT}"), (DOCKER, f"{ADDRESS}:{DOCKER_PORT}"), (DOCKER_SOCKET, "/x"))
}
Typed = Callable[..., tuple[int, str, list[str]]]


class OpenApp(BoxApp):
    """An app whose password settings take effect."""

    def machine(self, name: str = "") -> Machine:
        services = FakeServices(self.box)
        services.access, services.reporter = self.access, self.reporter
        return Machine("box", services)


class TlsApp(OpenApp):
    """An app whose new machines have TLS."""

    def new_machine_spec(self) -> MachineSpec:
        return self.box.spec(tls=True)


@pytest.fixture
def b2d(box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Typed]:
    """Run a command in the box's home; return its exit code, its stdout and its stderr lines without steps."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("B2D_HOME", str(box.home.root))

    def typed(*arguments: str, kind: type[BoxApp] = OpenApp, **settings: object) -> tuple[int, str, list[str]]:
        def app(**_: object) -> BoxApp:
            quiet = "-q" in arguments
            effective = loader.load(box.home, {}, {"vm": "box", **settings})
            return kind(box.home, effective, terminal.choose_reporter(sys.stderr, quiet, {}), box)

        monkeypatch.setattr("b2d.cli.machine.create_app", app)
        code = main._run(list(arguments))
        out, err = capsys.readouterr()
        return code, out, [line for line in err.splitlines() if not line.endswith(" s")]

    yield typed


def refuse(monkeypatch: pytest.MonkeyPatch, *services: str) -> None:
    refused = tuple(TAKEN[service] for service in services)
    monkeypatch.setattr(control, "wait_until_serving", lambda *_: refused)
    monkeypatch.setattr(control, "refusals", lambda *_: refused)


def without_hint(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith(("to use it", "box was created by root"))]


def test_init_reports_unavoidable_exposure_once(b2d: Typed) -> None:
    code, out, err = b2d("init")
    assert (code, out, without_hint(err)) == (0, "", [BUSY, "box is created; start it: b2d up --vm box"])
    assert b2d("init")[2] == ["box exists already"]


@pytest.mark.parametrize("verb", ["up", "start", "boot", "resume"])
def test_up_reports_it_once_for_new_and_existing_machines(b2d: Typed, verb: str) -> None:
    for _ in range(2):
        code, out, err = b2d(verb)
        assert (code, out, err.count(BUSY), sum("SSH" in line for line in err)) == (0, "", 1, 1)


@pytest.mark.parametrize("verb", ["restart", "reset"])
def test_other_verbs_that_start_a_machine_report_it_too(b2d: Typed, verb: str) -> None:
    b2d("up")
    assert b2d(verb)[2].count(BUSY) == 1


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_a_well_known_password_is_a_warning(b2d: Typed, quiet: tuple[str, ...]) -> None:
    _, out, err = b2d("init", *quiet, ssh_password=True)
    assert err.count(f"warning: {EVERYBODY}; try: b2d config set password") == 1
    _, out, err = b2d("up", *quiet, ssh_password=True)
    then = "b2d config set password && b2d restart --vm box"
    assert (out, err.count(f"warning: {EVERYBODY}; try: {then}")) == ("", 1)


def test_the_exposure_of_a_running_machine_is_that_of_its_boot(b2d: Typed) -> None:
    b2d("up", ssh_password=True)
    assert any(EVERYBODY in line for line in b2d("up")[2])
    assert BUSY in b2d("restart")[2]


def test_a_saved_machine_has_the_password_of_its_boot(b2d: Typed, box: Box) -> None:
    b2d("up", ssh_password=True, password="mine")
    box.machine().save()
    assert any("also accepts docker's password" in line for line in b2d("up")[2])
    assert BUSY in b2d("restart")[2]


def test_quiet_suppresses_known_exposure(b2d: Typed) -> None:
    assert b2d("up", "-q") == (0, "", [])


def test_without_tls_the_socket_is_shown_first_and_tcp_for_tools_that_need_it(b2d: Typed, box: Box) -> None:
    _, out, err = b2d("up")
    wanted = f"{host_of(box)}; for tools that need TCP: {BY_TCP}" if host_of(box) != BY_TCP else BY_TCP
    assert (out, err.count(f"box is up: {wanted}")) == ("", 1)
    _, out, err = b2d("up", "--json")
    assert json.loads(out)["docker"] == {"host": host_of(box), "cert_path": ""}


def test_with_tls_one_endpoint_is_shown(b2d: Typed) -> None:
    assert f"box is up: {BY_TCP}" in b2d("up", kind=TlsApp)[2]


@pytest.mark.parametrize(
    ("refused", "greeting"),
    [
        ((), "box is up: {socket}; for tools that need TCP: {tcp}"),
        ((SSH,), "box is up: {socket}; for tools that need TCP: {tcp}"),
        ((DOCKER,), "box is up: {socket}"),
        ((DOCKER_SOCKET,), "box is up: {tcp}"),
        ((DOCKER, DOCKER_SOCKET), "box is up"),
    ],
)
def test_ports_that_the_agent_could_not_open_are_reported_and_not_announced(
    b2d: Typed, box: Box, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...], greeting: str
) -> None:
    refuse(monkeypatch, *refused)
    code, out, err = b2d("up", "-v")
    for service in refused:
        sentence = f"{service} of box is not available at {TAKEN[service].place}: nc, pid 5 uses that port"
        assert err.count(f"warning: {sentence}; try: b2d restart --vm box") == 1
    assert sum("is not available at" in line for line in err) == len(refused)
    if host_of(box) != BY_TCP:
        assert greeting.format(socket=host_of(box), tcp=BY_TCP) in err
    assert (code, out) == (0, "")


def test_an_agent_that_is_not_ready_is_reported(b2d: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "wait_until_serving", lambda *_: None)
    assert not [line for line in b2d("up")[2] if "does not serve" in line]  # the fake has no process, and so no agent
    monkeypatch.setattr("b2d.machine.lifecycle.is_alive", lambda _: True)
    warning = "warning: the agent of box is not ready yet: its socket and SSH may not respond; try: b2d status --vm box"
    assert warning in b2d("up")[2]


@pytest.mark.parametrize("state", list(MachineState))
def test_status_reports_it_for_a_running_machine(
    b2d: Typed, box: Box, monkeypatch: pytest.MonkeyPatch, state: MachineState
) -> None:
    refuse(monkeypatch, SSH)
    monkeypatch.setattr("b2d.machine.lifecycle.Machine.state", lambda _: state)
    code, out, err = b2d("status")
    sentence = f"warning: {TAKEN[SSH].sentence('box')}; try: b2d restart --vm box"
    assert (out, err) == (f"{state}\n", [sentence] if state in ("running", "starting") else [])
    assert code == {"running": 0, "absent": 3}.get(state, 4)


def test_the_status_of_the_fast_path_reports_it_too(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    from b2d.cli import fast_status

    refuse(monkeypatch, SSH)
    reporter = FakeReporter()
    monkeypatch.setattr("b2d.cli.fast_status.install_handlers", lambda: None)
    monkeypatch.setattr("b2d.reporting.terminal.choose_reporter", lambda *_: reporter)
    monkeypatch.setattr("b2d.machine.lifecycle.Machine.state", lambda _: MachineState.RUNNING)
    monkeypatch.setenv("B2D_HOME", str(box.home.root))
    assert fast_status.answer_status("box") == ("running\n", 0)
    assert reporter.texts("warn") == [f"{TAKEN[SSH].sentence('box')}; try: b2d restart --vm box"]
