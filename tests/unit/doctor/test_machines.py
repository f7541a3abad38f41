"""What the doctor finds of a home's machines, and what --fix takes away: nothing that is a machine's, or runs."""

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
from b2d.errors import B2dError, HypervisorError
from b2d.guest import tls_certificates
from b2d.guest.readiness import Ping
from b2d.host_agent.report import SSH, Refusal
from b2d.image.image_store import ImageStore
from b2d.machine.boot_preparation import credentials
from b2d.machine.exposure import Exposure, Severity
from b2d.machine_store.store import MachineStore, RunningFacts
from b2d.models import HARDWARE, STARTED_STATES, Access, DockerEnv, Image, MachineSpec, MachineState
from b2d.network import port_allocation
from b2d.paths import Home
from tests.support.fakes import FakeImages, FakeReporter, a_spec
from tests.unit.doctor.test_examination import an_examination

NOW = 1_800_000_000.0
HERE = "127.0.59.249"  # where no machine of this host is
KEPT = {"1" * 64: "debian"}


class Ill:
    """A home whose machines are as a test says; `found` is what the doctor finds."""

    def __init__(self, tmp_path: Path, *specs: MachineSpec) -> None:
        self.folder = tmp_path
        self.home = Home(tmp_path / "home")
        self.states: dict[str, MachineState | B2dError] = {}
        self.pings: dict[str, Ping] = {}
        self.images = FakeImages(dict(KEPT))
        self.exposed: Sequence[Exposure] | B2dError = ()
        self.refusals: Sequence[Refusal] | None = None
        for spec in specs:
            MachineStore(self.home).write(spec)
        self.home.root.mkdir(exist_ok=True)

    def state(self, spec: MachineSpec) -> MachineState:
        state = self.states.get(spec.name, MachineState.STOPPED)
        if isinstance(state, B2dError):
            raise state
        return state

    def exposures(self, spec: MachineSpec, state: MachineState) -> Sequence[Exposure]:
        if isinstance(self.exposed, B2dError):
            raise self.exposed
        return self.exposed

    def examination(self, **changes: object) -> Examination:
        ward = MachineChecks(
            self.home,
            self.state,
            lambda spec, _: self.pings.get(spec.name),
            self.images,
            lambda: NOW,
            exposures=self.exposures,
            refusals=lambda _: self.refusals,
        )
        return an_examination(self.folder, home=self.home, machine_checks=ward, environment={}, **changes)

    def found(self, machine: str = "boot2docker-vm") -> Mapping[str, Finding]:
        return {one.name: one for one in self.examination().findings() if one.machine == machine}


def sound(name: str = "boot2docker-vm", **changes: object) -> MachineSpec:
    port = port_allocation.reserve_ports(HERE, 20000 + os.getpid() % 20000)
    return a_spec(name, **{"image": "1" * 64, "address": HERE, "ssh_port": port, "docker_port": port + 1, **changes})


@pytest.fixture
def ill(tmp_path: Path) -> Ill:
    return Ill(tmp_path, sound())


@pytest.fixture
def running(ill: Ill) -> Ill:
    ill.states["boot2docker-vm"] = MachineState.RUNNING
    ill.pings["boot2docker-vm"] = Ping("1.45", NOW)
    tls_certificates.ensure_certificates(ill.home.machine("boot2docker-vm"), [HERE], datetime.fromtimestamp(NOW, UTC))
    return ill


def test_a_sound_machine_is_good_in_all_respects(running: Ill) -> None:
    found = running.found()
    assert list(found) == ["machine", "clock", "certificates", "image"]
    assert {one.verdict for one in found.values()} == {Verdict.GOOD}
    assert not any(one.fix for one in found.values())


def test_a_machine_that_is_off_is_good_too(ill: Ill) -> None:
    found = ill.found()
    assert list(found) == ["machine", "ports", "pointers", "certificates", "image"]
    assert {one.verdict for one in found.values()} == {Verdict.GOOD}


@pytest.mark.parametrize(
    ("state", "fix"),
    [
        (MachineState.ABSENT, "b2d delete"),
        (MachineState.CRASHED, "b2d up"),
        (MachineState.RUNNING, "b2d logs; b2d restart"),
    ],
)
def test_how_a_machine_is_comes_with_what_helps(ill: Ill, state: MachineState, fix: str) -> None:
    ill.states["boot2docker-vm"] = state
    assert (ill.found()["machine"].verdict, ill.found()["machine"].fix) == (Verdict.DOUBTFUL, fix)


def test_one_broken_machine_hides_no_other(tmp_path: Path) -> None:
    ill = Ill(tmp_path, sound("a"), sound("b"), sound("c"))
    ill.home.machine("a").spec.write_text("{")
    ill.states["b"] = HypervisorError("it hangs", hint="end it")
    assert "is not JSON" in ill.found("a")["machine"].message
    assert ill.found("a")["machine"].fix == "b2d up --vm a"  # which mends it
    assert (ill.found("b")["machine"].message, ill.found("b")["machine"].fix) == ("it hangs", "end it")
    assert ill.found("c")["machine"].verdict == Verdict.GOOD
    assert not [one for one in ill.examination().findings() if one.machine and one.verdict == Verdict.BAD]


def test_a_port_that_somebody_has_is_told_with_their_name(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ill = Ill(tmp_path, sound(address="127.0.0.1", docker_port=port))
        found = ill.found()["ports"]
    assert (found.verdict, found.fix) == (Verdict.DOUBTFUL, "b2d up")
    assert f"{port} (" in found.message and f"pid {os.getpid()}" in found.message


@pytest.mark.parametrize(("ahead", "told"), [(-60, "60 s behind"), (3600, "3600 s ahead")])
def test_a_clock_that_is_wrong_is_put_right_by_a_sleep(running: Ill, ahead: int, told: str) -> None:
    running.pings["boot2docker-vm"] = Ping("1.45", NOW + ahead)
    found = running.found()["clock"]
    assert (told in found.message, found.fix) == (True, "b2d save && b2d up")


def test_certificates_that_end_or_lack_the_address_are_made_anew_by_a_restart(running: Ill) -> None:
    paths = running.home.machine("boot2docker-vm")
    MachineStore(running.home).write(sound(address="127.0.59.110"))
    assert "lacks 127.0.59.110" in running.found()["certificates"].message
    MachineStore(running.home).write(sound())
    tls_certificates.ensure_certificates(paths, [HERE], datetime.fromtimestamp(NOW, UTC) - timedelta(days=4000))
    found = running.found()["certificates"]
    assert (found.verdict, found.fix, "is valid from" in found.message) == (Verdict.DOUBTFUL, "b2d restart", True)
    (paths.authority / "server-key.pem").unlink()
    (paths.certs / "ca.pem").write_text("nonsense")
    assert "ca.pem is damaged" in running.found()["certificates"].message
    running.states["boot2docker-vm"] = MachineState.STOPPED
    assert running.found()["certificates"].verdict == Verdict.GOOD  # up makes them anew


def test_a_newer_image_that_is_kept_is_told(running: Ill) -> None:
    running.images.kept["2" * 64] = "debian"
    assert running.found()["image"].fix == "b2d restart"
    running.states["boot2docker-vm"] = MachineState.STOPPED
    assert "the next start uses" in running.found()["image"].message


def test_an_old_image_of_debian_is_told(running: Ill) -> None:
    facts = running.home.image("1" * 64).facts
    facts.parent.mkdir()
    facts.touch()
    os.utime(facts, (NOW - 61 * 86400,) * 2)
    found = running.found()["image"]
    assert ("61 days old" in found.message, found.fix) == (True, "b2d upgrade")
    MachineStore(running.home).write(sound(source="boot2docker"))
    running.images.kept["1" * 64] = "boot2docker"
    assert running.found()["image"].verdict == Verdict.GOOD  # there will never be a newer one


def test_an_image_that_is_gone_is_told(ill: Ill) -> None:
    MachineStore(ill.home).write(a_spec(source="elsewhere"))
    assert ill.found()["image"].fix == "b2d download"


def test_the_engine_of_a_running_machine_is_compared_with_the_client(running: Ill) -> None:
    running.pings["boot2docker-vm"] = Ping("9.9", NOW)
    told = next(one for one in running.examination().findings() if one.name == "docker")
    assert "9.9" in told.message or "no docker client" in told.message


def pointed(ill: Ill) -> None:
    facts = RunningFacts(HERE, 2022, 2376, DockerEnv("tcp://127.0.59.249:2376"))
    MachineStore(ill.home).write_env("boot2docker-vm", facts)


def broom(ill: Ill, reporter: FakeReporter) -> Cleaner:
    return Cleaner(ill.home, ill.state, ImageStore(ill.home).remove, reporter)


def test_shells_are_no_longer_sent_to_a_machine_that_is_off(ill: Ill) -> None:
    pointed(ill)
    found = ill.found()["pointers"]
    assert (found.verdict, found.left_env) == (Verdict.DOUBTFUL, ("boot2docker-vm",))
    reporter = FakeReporter()
    broom(ill, reporter).clean([found])
    assert not ill.home.machine("boot2docker-vm").env.exists()
    assert reporter.texts("note") == ["shells are not directed to boot2docker-vm any more"]


def test_a_machine_that_came_up_meanwhile_keeps_what_up_found_out(ill: Ill) -> None:
    pointed(ill)
    found = ill.found()["pointers"]
    ill.states["boot2docker-vm"] = MachineState.RUNNING
    reporter = FakeReporter()
    broom(ill, reporter).clean([found])
    assert ill.home.machine("boot2docker-vm").env.exists()
    assert reporter.texts("warn") == ["boot2docker-vm is running now"]


def leftovers(home: Home) -> Iterator[Path]:
    for folder, names in (
        (home.root, [".config.toml.abcd_123"]),
        (home.cache, [f"{'a' * 32}.part", f"{'a' * 32}.mark", f"{'b' * 32}.iso", ".b2d-xyzxyz12/b2d.iso"]),
        (home.images, [".77.unfinished", ".b2d-uvwuvw12/initrd"]),
        (home.machine("boot2docker-vm").folder, [".machine.json.q1q1q1q1"]),
    ):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 1000)
            yield path.parent if "/" in name else path


def test_what_was_left_unfinished_for_a_day_is_removed_and_nothing_else(ill: Ill) -> None:
    paths = ill.home.machine("boot2docker-vm")
    kept = [
        ill.home.machines_lock,
        ill.home.config_lock,
        ill.home.images_lock,
        paths.lock,
        paths.holder,
        paths.disk_qcow2,
        ill.home.config,
    ]
    kept += [ill.home.cache / "package.deb", ill.home.cache / "a.lock", ill.home.image("1" * 64).iso, paths.spec]
    gone = list(leftovers(ill.home))
    for path in kept:
        path.touch()
    assert left.check_stale_files(ill.home, time.time()).verdict == Verdict.GOOD  # somebody may be at it
    for path in [*kept, *gone]:
        os.utime(path, (1, 1))
    found = left.check_stale_files(ill.home, time.time())
    assert set(found.left_files) == set(gone)
    broom(ill, FakeReporter()).clean([found])
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_what_cannot_be_removed_is_told_and_the_rest_goes(ill: Ill) -> None:
    path = ill.home.root / "file"
    path.touch()
    reporter = FakeReporter()
    found = One("stale files", Verdict.DOUBTFUL, "", left_files=(Path("/proc/version"), path))
    broom(ill, reporter).clean([found])
    assert len(reporter.texts("warn")) == 1
    assert not path.exists()


def test_an_image_of_nobodys_is_removed(ill: Ill) -> None:
    gone: list[str] = []
    spare = [Image("2" * 64, Path("2.iso"), "debian", "1.0", 3_000_000)]
    found = next(one for one in ill.examination(spare_images=lambda _: spare).findings() if one.name == "images")
    assert (found.verdict, found.message) == (Verdict.DOUBTFUL, "no machine uses 1.0: 2.9 MiB")
    Cleaner(ill.home, ill.state, gone.append, FakeReporter()).clean([found])
    assert gone == ["2" * 64]


def test_a_machines_folder_without_its_description_is_told_and_stays(ill: Ill) -> None:
    for name in ("disk", "empty", "it's mine"):
        ill.home.machine(name).folder.mkdir()
    ill.home.machine("disk").disk_qcow2.touch()
    found = {one.machine: one.fix for one in left.find_incomplete_machines(ill.home)}
    look = "ls -l " + shlex.quote(str(ill.home.machines / "it's mine"))
    assert found == {"disk": "b2d init --vm disk", "empty": "b2d delete --vm empty", "it's mine": look}


def test_the_images_of_machines_that_cannot_be_read_are_not_touched(ill: Ill, monkeypatch: pytest.MonkeyPatch) -> None:
    ill.home.machine("boot2docker-vm").spec.write_text("{")
    asked: list[object] = []

    def spare(used: object) -> list[object]:
        asked.append(used)
        return []

    found = list(ill.examination(spare_images=spare).findings())
    assert asked == []

    def nobody_knows(_: MachineStore) -> list[str]:
        raise B2dError("machines: Permission denied")

    monkeypatch.setattr(MachineStore, "names", nobody_knows)
    again = {one.name: one for one in ill.examination(spare_images=spare).findings()}
    assert (again["machines"].message, again["machines"].fix) == (
        "machines: Permission denied",
        f"ls -ld {ill.home.machines}",
    )
    assert asked == []
    assert [one.verdict for one in found if one.name == "images"] == [Verdict.GOOD]


TAKEN = Refusal(SSH, f"{HERE}:2022", "nc, pid 5 has that port")


@pytest.mark.parametrize("state", list(MachineState))
def test_what_the_agent_was_refused_is_told_of_a_machine_that_comes_up(ill: Ill, state: MachineState) -> None:
    ill.states["boot2docker-vm"] = state
    ill.refusals = (TAKEN,)
    found = ill.found().get("agent")
    if state in STARTED_STATES:
        assert found is not None
        assert (found.verdict, found.message, found.fix) == (
            Verdict.DOUBTFUL,
            TAKEN.sentence("boot2docker-vm"),
            "b2d restart",
        )
    else:
        assert found is None


def test_an_agent_that_serves_all_is_good_and_one_that_said_nothing_is_not_spoken_of(running: Ill) -> None:
    assert "agent" not in running.found()
    running.refusals = ()
    assert running.found()["agent"].verdict == Verdict.GOOD


@pytest.mark.parametrize(
    ("weight", "verdict"),
    [(Severity.ASKED, Verdict.GOOD), (Severity.KNOWN, Verdict.DOUBTFUL), (Severity.SERIOUS, Verdict.DOUBTFUL)],
)
def test_what_cannot_be_closed_is_a_finding(ill: Ill, weight: Severity, verdict: Verdict) -> None:
    ill.exposed = [Exposure("anybody gets in", weight, "shut it")]
    found = ill.found()["exposure"]
    assert (found.verdict, found.message, found.fix) == (verdict, "anybody gets in", "shut it")


def test_a_machine_whose_exposure_cannot_be_told_is_told(ill: Ill) -> None:
    ill.exposed = HypervisorError("nobody can tell", hint="ask again")
    found = ill.found()["exposure"]
    assert (found.verdict, found.message, found.fix) == (Verdict.DOUBTFUL, "nobody can tell", "ask again")


@pytest.mark.parametrize("booted", [True, False])
def test_the_doctor_looks_at_the_settings_that_a_machine_was_booted_with(tmp_path: Path, booted: bool) -> None:
    it = make_app({"B2D_HOME": str(tmp_path)}, {"vm": "box", "ssh_password": not booted}, FakeReporter())
    spec = sound("box", hardware=HARDWARE)
    it.store.write(spec)
    credentials(spec, it.home.machine("box"), Access(ssh_password=booted))
    found = it.machine().exposures(booted=booted)
    assert [one.message.partition(",")[0] for one in found] == ["over SSH box takes the password tcuser too"]
    assert it.machine().exposures(booted=not booted) == []
