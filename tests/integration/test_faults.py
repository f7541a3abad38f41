"""Any change to the home may fail, or be the last one before b2d dies: the next command continues with all data."""

import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from b2d.config import editor
from b2d.errors import B2dError, InvalidStateError
from b2d.guest.readiness import Ping
from b2d.host.files import write_atomic
from b2d.image.image_store import ImageStore
from b2d.machine.reconfigure import apply_changes
from b2d.machine.snapshots import SnapshotCommands
from b2d.models import STARTED_STATES, MachineState
from b2d.paths import Home
from tests.support import fault_injection
from tests.support.fake_machine import Box, Source
from tests.support.fakes import ALIVE
from tests.support.kernel_images import a_b2d_iso

ABSENT, STOPPED, STARTING, RUNNING, PAUSED, SAVED, STOPPING, CRASHED = MachineState
DATA = b"what a person has on their disk"


@pytest.fixture
def quiet(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Return a box with a Docker that answers while its machine is on, without open ports."""
    box.listens = False

    def ping(*_: object) -> Ping | None:
        machine = box.hypervisor.machines.get("box")
        return Ping("1.45", None) if machine is not None and machine.state in ALIVE else None

    monkeypatch.setattr("b2d.machine.boot_monitor.ping", ping)
    return box


@dataclass
class Before:
    """A copy of a home with its machine, restored before each try."""

    box: Box
    folder: Path

    def keep(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.write_hypervisor()
        if self.box.home.root.exists():
            shutil.copytree(self.box.home.root, self.folder / "home")

    def restore(self) -> None:
        shutil.rmtree(self.box.home.root, ignore_errors=True)
        if (self.folder / "home").exists():
            shutil.copytree(self.folder / "home", self.box.home.root)
        self.read_hypervisor("hypervisor")

    def write_hypervisor(self, name: str = "hypervisor") -> None:
        (self.folder / name).write_bytes(pickle.dumps(self.box.hypervisor.machines))

    def read_hypervisor(self, name: str) -> None:
        self.box.hypervisor.machines = pickle.loads((self.folder / name).read_bytes())


def change_settings(box: Box) -> object:
    return apply_changes(box.machine(), {"memory": 640, "disk": 512})


def snapshots(box: Box) -> SnapshotCommands:
    return SnapshotCommands(box.machine())


def create_snapshot_once(box: Box) -> object:
    """Create the snapshot unless it exists from an earlier try."""
    return [snapshot.name for snapshot in snapshots(box).all()] == ["one"] or snapshots(box).create("one")


def restore_snapshot(box: Box) -> object:
    """Restore the snapshot, which the first try has to create."""
    if not snapshots(box).all():
        box.driver().take_snapshot("one")
    return snapshots(box).restore("one", lambda _: None)


def reset(box: Box) -> object:
    """Reset the machine; a repeated try may find nothing to reset."""
    with suppress(InvalidStateError):
        return box.machine().reset()
    return None


VERBS: dict[str, tuple[MachineState, Callable[[Box], object]]] = {
    "init": (ABSENT, lambda box: box.machine().init(Source(lambda: box.spec(tls=True)))),
    "up": (STOPPED, lambda box: box.machine().up()),
    "up again": (RUNNING, lambda box: box.machine().up()),
    "up from saved": (SAVED, lambda box: box.machine().up()),
    "up after a crash": (CRASHED, lambda box: box.machine().up()),
    "stop": (RUNNING, lambda box: box.machine().stop()),
    "poweroff": (RUNNING, lambda box: box.machine().poweroff()),
    "restart": (RUNNING, lambda box: box.machine().restart()),
    "reset": (RUNNING, reset),
    "save": (RUNNING, lambda box: box.machine().save()),
    "set": (STOPPED, change_settings),
    "snapshot create": (RUNNING, create_snapshot_once),
    "snapshot restore": (SAVED, restore_snapshot),
    "delete": (RUNNING, lambda box: box.machine().delete()),
}


def assert_usable(box: Box, verb: str, act: Callable[[Box], object]) -> None:
    """Assert that the same command and the daily ones work."""
    machine = box.machine()
    before = machine.state()
    assert {box.store.read(name) is not None for name in box.store.names()} <= {True}
    if machine.paths.env.exists() and box.store.read_env("box") is None:
        pytest.fail("half of env was written")
    act(box)
    if verb == "delete":
        assert not box.paths.folder.exists()
    machine.init(Source(lambda: box.spec(tls=True)))
    assert machine.up() == machine.facts()
    assert machine.state() in STARTED_STATES
    data = box.hypervisor.machines["box"].payload
    assert data == DATA or verb == "delete" or (verb == "init" and before in (ABSENT, STOPPED))
    assert machine.stop() is True
    assert not machine.paths.env.exists()
    machine.delete()
    assert not box.paths.folder.exists()
    assert box.hypervisor.machines == {}
    assert [path.name for path in box.home.machines.iterdir()] == [".box.lock"]


def prepare_box(box: Box, folder: Path, verb: str) -> Before:
    state, _ = VERBS[verb]
    if state != ABSENT:
        box.create_machine(tls=verb != "set")
    if state not in (ABSENT, STOPPED):
        box.in_state(state)
    for machine in box.hypervisor.machines.values():
        machine.payload = DATA
    before = Before(box, folder / "before")
    before.keep()
    return before


@pytest.mark.parametrize("verb", VERBS)
def test_a_failed_change_is_reported_and_the_next_command_succeeds(quiet: Box, tmp_path: Path, verb: str) -> None:
    _, act = VERBS[verb]
    before = prepare_box(quiet, tmp_path, verb)
    total = fault_injection.count_changes(quiet.home.root, lambda: act(quiet))
    assert total >= 3
    for at in range(1, total + 1):
        before.restore()
        with suppress(B2dError):
            fault_injection.run_failing(quiet.home.root, at, lambda: act(quiet))
        assert_usable(quiet, verb, act)


@pytest.mark.parametrize("verb", VERBS)
def test_a_home_is_usable_after_a_process_died_at_any_change(quiet: Box, tmp_path: Path, verb: str) -> None:
    _, act = VERBS[verb]
    before = prepare_box(quiet, tmp_path, verb)
    total = fault_injection.count_changes(quiet.home.root, lambda: act(quiet))
    for at in range(1, total + 1):
        before.restore()
        assert fault_injection.run_dying(
            quiet.home.root, at, lambda: act(quiet), lambda: before.write_hypervisor("left")
        ), at
        before.read_hypervisor("left")
        assert_usable(quiet, verb, act)


def test_reading_needs_no_disk_space(quiet: Box) -> None:
    machine = quiet.in_state(RUNNING)

    def read() -> None:
        assert machine.state() == RUNNING
        assert machine.facts().address
        assert machine.spec().name == "box"
        assert machine.answers(1) is not None
        assert quiet.store.names() == ["box"]

    fault_injection.run_failing(quiet.home.root, 0, read)
    assert fault_injection.count_changes(quiet.home.root, read) == 0


def store_image(home: Home, source: Path) -> object:
    iso = source.with_name("brought.iso")
    if not iso.exists():
        shutil.copy(source, iso)
    return ImageStore(home).add_move(iso, "debian")


IMAGES: dict[str, Callable[[Home, Path], object]] = {
    "adopt": lambda home, source: ImageStore(home).add_copy(source, "debian"),
    "take": store_image,
    "remove": lambda home, _: list(map(ImageStore(home).remove, [image.sha256 for image in ImageStore(home).all()])),
    "verify": lambda home, _: list(map(ImageStore(home).verify, ImageStore(home).all())),
}


@pytest.mark.parametrize("dies", [False, True], ids=["refused", "the last"])
@pytest.mark.parametrize("verb", IMAGES)
def test_images_are_complete_or_absent(tmp_path: Path, verb: str, dies: bool) -> None:
    source, home, act = tmp_path / "some.iso", Home(tmp_path / "home"), IMAGES[verb]
    source.write_bytes(a_b2d_iso())

    def begin() -> None:
        shutil.rmtree(home.root, ignore_errors=True)
        (tmp_path / "brought.iso").unlink(missing_ok=True)
        if verb in ("remove", "verify"):
            image = ImageStore(home).add_copy(source, "debian")
            home.image(image.sha256).checked.unlink()  # so that there is something to record

    begin()
    total = fault_injection.count_changes(home.root, lambda: act(home, source))
    assert total >= 1
    for at in range(1, total + 1):
        begin()
        if dies:
            assert fault_injection.run_dying(home.root, at, lambda: act(home, source), lambda: None)
        else:
            with suppress(B2dError):
                fault_injection.run_failing(home.root, at, lambda: act(home, source))
        for image in ImageStore(home).all():
            ImageStore(home).verify(image)
        act(home, source)
        assert ImageStore(home).all() == [] if verb == "remove" else ImageStore(home).all()
        image = ImageStore(home).add_copy(source, "debian")
        ImageStore(home).verify(image)
        ImageStore(home).remove(image.sha256)
        assert [path.name for path in home.images.iterdir()] == [".lock"], at


CONFIG: dict[str, Callable[[Home], object]] = {
    "set": lambda home: editor.set_values(home, {}, {"memory": "4096"}),
    "unset": lambda home: editor.unset_values(home, {}, ("cpus",)),
    "edit": lambda home: editor.edit(home, {}, partial(write_atomic, home.config_draft, b"memory = 4096\n")),
}


@pytest.mark.parametrize("dies", [False, True], ids=["refused", "the last"])
@pytest.mark.parametrize("verb", CONFIG)
def test_settings_are_the_previous_or_the_new_ones(tmp_path: Path, verb: str, dies: bool) -> None:
    home, act, mine = Home(tmp_path / "home"), CONFIG[verb], "# mine\ncpus = 2\n"

    def begin() -> None:
        shutil.rmtree(home.root, ignore_errors=True)
        home.root.mkdir()
        home.config.write_text(mine)

    begin()
    total = fault_injection.count_changes(home.root, lambda: act(home))
    new = home.config.read_text()
    for at in range(1, total + 1):
        begin()
        if dies:
            assert fault_injection.run_dying(home.root, at, lambda: act(home), lambda: None)
        else:
            with suppress(B2dError):
                fault_injection.run_failing(home.root, at, lambda: act(home))
        assert home.config.read_text() in (mine, new)
        act(home)
        assert home.config.read_text() == new
