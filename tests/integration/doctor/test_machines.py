"""Findings of the doctor on a home's machines, and the removals of --fix: never files in use or a running process."""

import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from b2d.app.wiring import make_app
from b2d.doctor import leftovers as left
from b2d.doctor.examination import Examination, Finding, MachineChecks, Verdict
from b2d.doctor.finding import Finding as One
from b2d.doctor.fixes import Cleaner
from b2d.drivers.qemu.templates import Templates
from b2d.errors import B2dError, HypervisorError
from b2d.guest import tls_certificates
from b2d.guest.readiness import Ping
from b2d.host_agent.report import SSH, Refusal
from b2d.image.image_store import ImageStore
from b2d.machine.boot_preparation import credentials
from b2d.machine.exposure import Exposure, Severity
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import HARDWARE, STARTED_STATES, Access, DockerEnv, Image, MachineSpec, MachineState
from b2d.network import port_allocation
from b2d.paths import Home
from tests.support.fakes import FakeImages, FakeReporter, a_spec
from tests.unit.doctor.test_examination import an_examination

NOW = 1_800_000_000.0
HERE = "127.0.59.249"  # an address that no machine of this host uses
KEPT = {"1" * 64: "debian"}


class ExaminedHome:
    """A home with machines in chosen states; `findings` are the doctor's."""

    def __init__(self, tmp_path: Path, *specs: MachineSpec) -> None:
        self.folder = tmp_path
        self.home = Home(tmp_path / "home")
        self.states: dict[str, MachineState | B2dError] = {}
        self.pings: dict[str, Ping] = {}
        self.images = FakeImages(dict(KEPT))
        self.exposed: Sequence[Exposure] | B2dError = ()
        self.refused: Sequence[Refusal] | None = None
        for spec in specs:
            MachineStore(self.home).write(spec)
        self.home.root.mkdir(exist_ok=True)

    def state(self, spec: MachineSpec) -> MachineState:
        state = self.states.get(spec.name, MachineState.STOPPED)
        if isinstance(state, B2dError):
            raise state
        return state

    def ping(self, spec: MachineSpec, timeout_s: float) -> Ping | None:
        return self.pings.get(spec.name)

    def refusals(self, name: str) -> Sequence[Refusal] | None:
        return self.refused

    def exposures(self, spec: MachineSpec, state: MachineState) -> Sequence[Exposure]:
        if isinstance(self.exposed, B2dError):
            raise self.exposed
        return self.exposed

    def examination(self, **changes: object) -> Examination:
        checks = MachineChecks(self.home, self, self.images, lambda: NOW)
        return an_examination(self.folder, home=self.home, machine_checks=checks, environment={}, **changes)

    def findings(self, machine: str = "boot2docker-vm") -> Mapping[str, Finding]:
        return {finding.name: finding for finding in self.examination().findings() if finding.machine == machine}


def sound(name: str = "boot2docker-vm", **changes: object) -> MachineSpec:
    port = port_allocation.reserve_ports(HERE, 20000 + os.getpid() % 20000)
    return a_spec(name, **{"image": "1" * 64, "address": HERE, "ssh_port": port, "docker_port": port + 1, **changes})


@pytest.fixture
def examined(tmp_path: Path) -> ExaminedHome:
    return ExaminedHome(tmp_path, sound())


@pytest.fixture
def running(examined: ExaminedHome) -> ExaminedHome:
    examined.states["boot2docker-vm"] = MachineState.RUNNING
    examined.pings["boot2docker-vm"] = Ping("1.45", NOW)
    tls_certificates.ensure_certificates(
        examined.home.machine("boot2docker-vm"), [HERE], datetime.fromtimestamp(NOW, UTC)
    )
    return examined


def test_a_healthy_machine_is_good_in_all_checks(running: ExaminedHome) -> None:
    findings = running.findings()
    assert list(findings) == ["machine", "clock", "certificates", "image"]
    assert {finding.verdict for finding in findings.values()} == {Verdict.GOOD}
    assert not any(finding.fix for finding in findings.values())


def test_a_stopped_machine_is_good(examined: ExaminedHome) -> None:
    findings = examined.findings()
    assert list(findings) == ["machine", "ports", "pointers", "certificates", "image"]
    assert {finding.verdict for finding in findings.values()} == {Verdict.GOOD}


@pytest.mark.parametrize(
    ("state", "fix"),
    [
        (MachineState.ABSENT, "b2d delete"),
        (MachineState.CRASHED, "b2d up"),
        (MachineState.RUNNING, "b2d logs; b2d restart"),
    ],
)
def test_the_state_of_a_machine_is_reported_with_a_fix(examined: ExaminedHome, state: MachineState, fix: str) -> None:
    examined.states["boot2docker-vm"] = state
    assert (examined.findings()["machine"].verdict, examined.findings()["machine"].fix) == (Verdict.DOUBTFUL, fix)


def test_a_broken_machine_hides_no_other(tmp_path: Path) -> None:
    examined = ExaminedHome(tmp_path, sound("a"), sound("b"), sound("c"))
    examined.home.machine("a").spec.write_text("{")
    examined.states["b"] = HypervisorError("it hangs", hint="end it")
    assert "is not JSON" in examined.findings("a")["machine"].message
    assert examined.findings("a")["machine"].fix == "b2d up --vm a"  # up repairs it
    assert (examined.findings("b")["machine"].message, examined.findings("b")["machine"].fix) == ("it hangs", "end it")
    assert examined.findings("c")["machine"].verdict == Verdict.GOOD
    assert not [
        finding for finding in examined.examination().findings() if finding.machine and finding.verdict == Verdict.BAD
    ]


def test_a_port_in_use_is_reported_with_the_program(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        examined = ExaminedHome(tmp_path, sound(address="127.0.0.1", docker_port=port))
        ports = examined.findings()["ports"]
    assert (ports.verdict, ports.fix) == (Verdict.DOUBTFUL, "b2d up")
    assert f"{port} (" in ports.message and f"pid {os.getpid()}" in ports.message


@pytest.mark.parametrize(("ahead", "message"), [(-60, "60 s behind"), (3600, "3600 s ahead")])
def test_a_wrong_clock_is_fixed_by_saving_and_resuming(running: ExaminedHome, ahead: int, message: str) -> None:
    running.pings["boot2docker-vm"] = Ping("1.45", NOW + ahead)
    clock = running.findings()["clock"]
    assert (message in clock.message, clock.fix) == (True, "b2d save && b2d up")


def test_certificates_that_expired_or_lack_the_address_are_renewed_by_a_restart(running: ExaminedHome) -> None:
    paths = running.home.machine("boot2docker-vm")
    MachineStore(running.home).write(sound(address="127.0.59.110"))
    assert "lacks 127.0.59.110" in running.findings()["certificates"].message
    MachineStore(running.home).write(sound())
    tls_certificates.ensure_certificates(paths, [HERE], datetime.fromtimestamp(NOW, UTC) - timedelta(days=4000))
    certificates = running.findings()["certificates"]
    assert (certificates.verdict, certificates.fix, "is valid from" in certificates.message) == (
        Verdict.DOUBTFUL,
        "b2d restart",
        True,
    )
    (paths.authority / "server-key.pem").unlink()
    (paths.certs / "ca.pem").write_text("nonsense")
    assert "ca.pem is damaged" in running.findings()["certificates"].message
    running.states["boot2docker-vm"] = MachineState.STOPPED
    assert running.findings()["certificates"].verdict == Verdict.GOOD  # up creates new ones


def test_a_newer_stored_image_is_reported(running: ExaminedHome) -> None:
    running.images.sources["2" * 64] = "debian"
    assert running.findings()["image"].fix == "b2d restart"
    running.states["boot2docker-vm"] = MachineState.STOPPED
    assert "the next start uses" in running.findings()["image"].message


def test_an_old_debian_image_is_reported(running: ExaminedHome) -> None:
    facts = running.home.image("1" * 64).facts
    facts.parent.mkdir()
    facts.touch()
    os.utime(facts, (NOW - 61 * 86400,) * 2)
    image = running.findings()["image"]
    assert ("61 days old" in image.message, image.fix) == (True, "b2d upgrade")
    MachineStore(running.home).write(sound(source="boot2docker"))
    running.images.sources["1" * 64] = "boot2docker"
    assert running.findings()["image"].verdict == Verdict.GOOD  # there will never be a newer one


def test_a_missing_image_is_reported(examined: ExaminedHome) -> None:
    MachineStore(examined.home).write(a_spec(source="elsewhere"))
    assert examined.findings()["image"].fix == "b2d download"


def test_the_engine_of_a_running_machine_is_compared_with_the_client(running: ExaminedHome) -> None:
    running.pings["boot2docker-vm"] = Ping("9.9", NOW)
    engine = next(finding for finding in running.examination().findings() if finding.name == "docker")
    assert "9.9" in engine.message or "no docker client" in engine.message


def point_shells_at_machine(examined: ExaminedHome) -> None:
    facts = RunningFacts(HERE, 2022, 2376, DockerEnv("tcp://127.0.59.249:2376"))
    MachineStore(examined.home).write_env("boot2docker-vm", facts)


def make_cleaner(examined: ExaminedHome, reporter: FakeReporter) -> Cleaner:
    return Cleaner(examined.home, examined.state, ImageStore(examined.home).remove, reporter)


def test_stale_variables_of_a_stopped_machine_are_removed(examined: ExaminedHome) -> None:
    point_shells_at_machine(examined)
    pointers = examined.findings()["pointers"]
    assert (pointers.verdict, pointers.left_env) == (Verdict.DOUBTFUL, ("boot2docker-vm",))
    reporter = FakeReporter()
    make_cleaner(examined, reporter).clean([pointers])
    assert not examined.home.machine("boot2docker-vm").env.exists()
    assert reporter.texts("note") == ["shells no longer use the stale variables of boot2docker-vm"]


def test_a_machine_started_in_the_meantime_keeps_its_env_file(examined: ExaminedHome) -> None:
    point_shells_at_machine(examined)
    pointers = examined.findings()["pointers"]
    examined.states["boot2docker-vm"] = MachineState.RUNNING
    reporter = FakeReporter()
    make_cleaner(examined, reporter).clean([pointers])
    assert examined.home.machine("boot2docker-vm").env.exists()
    assert reporter.texts("warn") == ["boot2docker-vm is running now"]


def leftovers(home: Home) -> Iterator[Path]:
    for folder, names in (
        (home.root, [".config.toml.abcd_123"]),
        (home.cache, [f"{'a' * 32}.part", f"{'a' * 32}.mark", f"{'b' * 32}.iso", ".b2d-xyzxyz12/b2d.iso"]),
        (home.images, [".77.unfinished", ".b2d-uvwuvw12/initrd"]),
        (home.templates, [f".{'c' * 32}.77.unfinished", f".{'c' * 32}.json.abcd_123"]),
        (home.machine("boot2docker-vm").folder, [".machine.json.q1q1q1q1"]),
    ):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 1000)
            yield path.parent if "/" in name else path


def test_only_files_left_unfinished_for_a_day_are_removed(examined: ExaminedHome) -> None:
    paths = examined.home.machine("boot2docker-vm")
    remaining = [
        examined.home.machines_lock,
        examined.home.config_lock,
        examined.home.images_lock,
        paths.lock,
        paths.holder,
        paths.disk_qcow2,
        examined.home.config,
    ]
    remaining += [
        examined.home.cache / "package.deb",
        examined.home.cache / "a.lock",
        *Templates(examined.home.templates).files("d" * 32),
        examined.home.image("1" * 64).iso,
        paths.spec,
    ]
    removed = list(leftovers(examined.home))
    for path in remaining:
        path.touch()
    assert left.check_stale_files(examined.home, time.time()).verdict == Verdict.GOOD  # they may be in use
    for path in [*remaining, *removed]:
        os.utime(path, (1, 1))
    stale = left.check_stale_files(examined.home, time.time())
    assert set(stale.left_files) == set(removed)
    make_cleaner(examined, FakeReporter()).clean([stale])
    assert [path for path in removed if path.exists()] == []
    assert [path for path in remaining if not path.exists()] == []


def test_a_file_that_cannot_be_removed_is_reported_and_the_others_are_removed(examined: ExaminedHome) -> None:
    path = examined.home.root / "file"
    path.touch()
    reporter = FakeReporter()
    stale = One("stale files", Verdict.DOUBTFUL, "", left_files=(Path("/proc/version"), path))
    make_cleaner(examined, reporter).clean([stale])
    assert len(reporter.texts("warn")) == 1
    assert not path.exists()


def test_an_unused_image_is_removed(examined: ExaminedHome) -> None:
    removed: list[str] = []
    spare = [Image("2" * 64, Path("2.iso"), "debian", "1.0", 3_000_000)]
    unused = next(
        finding for finding in examined.examination(spare_images=lambda _: spare).findings() if finding.name == "images"
    )
    assert (unused.verdict, unused.message) == (Verdict.DOUBTFUL, "no machine uses 1.0: 2.9 MiB")
    Cleaner(examined.home, examined.state, removed.append, FakeReporter()).clean([unused])
    assert removed == ["2" * 64]


def templates_finding(examined: ExaminedHome) -> One:
    return next(finding for finding in examined.examination().findings() if finding.name == "templates")


def test_templates_of_images_that_are_no_longer_stored_are_removed(examined: ExaminedHome) -> None:
    templates = Templates(examined.home.templates, limit_mib=10)
    assert (templates_finding(examined).verdict, templates_finding(examined).message) == (Verdict.GOOD, "none")
    with templates.add("e" * 32, "9" * 64) as draft:
        os.write(draft.state, bytes(3 << 20))
    stale = templates_finding(examined)
    assert (stale.verdict, stale.message) == (Verdict.DOUBTFUL, "1 of images that are no longer stored")
    make_cleaner(examined, FakeReporter()).clean([stale])
    assert list(examined.home.templates.iterdir()) == []


def test_a_failed_template_is_reported_and_tried_again_after_the_fix(examined: ExaminedHome) -> None:
    templates = Templates(examined.home.templates)
    templates.refuse("e" * 32, "its image does not hold")
    failed = templates_finding(examined)
    assert failed.message == "machines boot without one for a day: its image does not hold"
    make_cleaner(examined, FakeReporter()).clean([failed])
    assert not templates.is_refused("e" * 32)


def test_a_machine_folder_without_a_description_is_reported_and_stays(examined: ExaminedHome) -> None:
    for name in ("disk", "empty", "it's mine"):
        examined.home.machine(name).folder.mkdir()
    examined.home.machine("disk").disk_qcow2.touch()
    fixes = {finding.machine: finding.fix for finding in left.find_incomplete_machines(examined.home)}
    look = "ls -l " + shlex.quote(str(examined.home.machines / "it's mine"))
    assert fixes == {"disk": "b2d init --vm disk", "empty": "b2d delete --vm empty", "it's mine": look}


def test_images_are_not_touched_while_a_machine_is_unreadable(
    examined: ExaminedHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined.home.machine("boot2docker-vm").spec.write_text("{")
    queries: list[object] = []

    def spare(used: object) -> list[object]:
        queries.append(used)
        return []

    findings = list(examined.examination(spare_images=spare).findings())
    assert queries == []

    def nobody_knows(_: MachineStore) -> list[str]:
        raise B2dError("machines: Permission denied")

    monkeypatch.setattr(MachineStore, "names", nobody_knows)
    again = {finding.name: finding for finding in examined.examination(spare_images=spare).findings()}
    assert (again["machines"].message, again["machines"].fix) == (
        "machines: Permission denied",
        f"ls -ld {examined.home.machines}",
    )
    assert queries == []
    assert [finding.verdict for finding in findings if finding.name == "images"] == [Verdict.GOOD]


TAKEN = Refusal(SSH, f"{HERE}:2022", "nc, pid 5 uses that port")


@pytest.mark.parametrize("state", list(MachineState))
def test_ports_that_the_agent_could_not_open_are_reported(examined: ExaminedHome, state: MachineState) -> None:
    examined.states["boot2docker-vm"] = state
    examined.refused = (TAKEN,)
    agent = examined.findings().get("agent")
    if state in STARTED_STATES:
        assert agent is not None
        assert (agent.verdict, agent.message, agent.fix) == (
            Verdict.DOUBTFUL,
            TAKEN.sentence("boot2docker-vm"),
            "b2d restart",
        )
    else:
        assert agent is None


def test_an_agent_that_serves_all_ports_is_good_and_one_without_a_report_is_not_listed(running: ExaminedHome) -> None:
    assert "agent" not in running.findings()
    running.refused = ()
    assert running.findings()["agent"].verdict == Verdict.GOOD


@pytest.mark.parametrize(
    ("weight", "verdict"),
    [(Severity.ASKED, Verdict.GOOD), (Severity.KNOWN, Verdict.DOUBTFUL), (Severity.SERIOUS, Verdict.DOUBTFUL)],
)
def test_an_exposure_is_a_finding(examined: ExaminedHome, weight: Severity, verdict: Verdict) -> None:
    examined.exposed = [Exposure("anybody gets in", weight, "shut it")]
    exposure = examined.findings()["exposure"]
    assert (exposure.verdict, exposure.message, exposure.fix) == (verdict, "anybody gets in", "shut it")


def test_an_exposure_that_cannot_be_determined_is_reported(examined: ExaminedHome) -> None:
    examined.exposed = HypervisorError("nobody can tell", hint="ask again")
    exposure = examined.findings()["exposure"]
    assert (exposure.verdict, exposure.message, exposure.fix) == (Verdict.DOUBTFUL, "nobody can tell", "ask again")


@pytest.mark.parametrize("booted", [True, False])
def test_the_doctor_checks_the_settings_of_the_last_boot(tmp_path: Path, booted: bool) -> None:
    app = make_app({"B2D_HOME": str(tmp_path)}, {"vm": "box", "ssh_password": not booted}, FakeReporter())
    spec = sound("box", hardware=HARDWARE)
    app.store.write(spec)
    credentials(spec, app.home.machine("box"), Access(ssh_password=booted))
    exposures = app.machine().exposures(booted=booted)
    assert [exposure.message.partition(",")[0] for exposure in exposures] == [
        "the SSH server of box also accepts the well-known password tcuser"
    ]
    assert app.machine().exposures(booted=not booted) == []
