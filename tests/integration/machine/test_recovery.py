"""A machine with damaged files hides no other, is repaired if possible, and can always be removed."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from b2d.app import wiring
from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.errors import B2dError
from b2d.host.process_identity import identify
from b2d.machine.recovery import specs_for_removal
from b2d.machine_store.spec_json import CorruptSpecError
from b2d.models import Endpoint, MachineState, ProcessIdentity
from b2d.paths import MachinePaths
from tests.cli.test_images import two_machines
from tests.support.cli import Prompt
from tests.support.fake_machine import Box, Source
from tests.support.fakes import FakeReporter, a_spec

RUNNING, STOPPED = MachineState.RUNNING, MachineState.STOPPED


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").touch()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "garbage": lambda path: path.write_bytes(os.urandom(300)),
    "of zeros": lambda path: path.write_bytes(bytes(300)),
    "another's": lambda path: path.write_text('["a list"]'),
    "a folder": a_folder,
    "missing": Path.unlink,
}
IN_THE_FUTURE = {"schema": 2, "name": "box", "colour": "red"}


@pytest.mark.parametrize("damage", DAMAGE)
def test_up_restores_a_damaged_machine_json_from_its_copy(box: Box, damage: str) -> None:
    machine = box.create_machine(memory_mib=700)
    data = box.hypervisor.machines["box"]
    box.paths.disk_qcow2.touch()
    DAMAGE[damage](box.paths.spec)
    if damage != "missing":
        with pytest.raises(CorruptSpecError) as caught:
            machine.spec()
        assert caught.value.hint == "b2d up --vm box"
    assert machine.init(Source(lambda: pytest.fail("it is described"))) is True
    assert machine.spec() == box.spec(memory_mib=700)
    machine.up()
    assert box.hypervisor.machines["box"] is data
    assert len(box.reporter.texts("warn")) == 1
    assert "uses the last copy of its description" in box.reporter.texts("warn")[0]


@pytest.mark.parametrize("damage", DAMAGE)
def test_without_a_valid_copy_a_new_machine_json_is_written_and_the_disk_stays(box: Box, damage: str) -> None:
    machine = box.create_machine(memory_mib=700)
    data = box.hypervisor.machines["box"]
    for path in (box.paths.spec, box.paths.spec_copy):
        DAMAGE[damage](path)
    assert machine.init(Source(lambda: box.spec(memory_mib=800))) is True
    assert machine.spec().memory_mib == 800
    machine.up()
    assert box.hypervisor.machines["box"] is data
    assert box.paths.spec_broken.exists() is (damage != "missing")
    machine.delete()
    assert not box.paths.folder.exists()


def test_a_damaged_machine_json_is_restored_while_the_machine_runs(box: Box) -> None:
    machine = box.in_state(RUNNING)
    box.paths.spec.write_bytes(b"")
    assert machine.init(Source(box.spec)) is True
    assert machine.up() == machine.facts()
    assert box.hypervisor.machines["box"].boots == 1
    assert machine.stop() is True


def test_a_renamed_folder_is_a_machine_with_the_new_name(box: Box) -> None:
    box.create_machine(memory_mib=700)
    new = box.home.machines / "new"
    box.paths.folder.rename(new)
    with pytest.raises(CorruptSpecError, match="moved or copied"):
        box.store.read("new")
    from b2d.machine.recovery import restore_spec

    assert restore_spec(box.store, "new", box.reporter) is True
    renamed = box.store.read("new")
    assert renamed is not None
    assert (renamed.name, renamed.memory_mib) == ("new", 700)


def test_a_machine_json_of_a_newer_b2d_is_unchanged_and_only_delete_removes_it(box: Box) -> None:
    machine = box.create_machine()
    for path in (box.paths.spec, box.paths.spec_copy):
        path.write_text(json.dumps(IN_THE_FUTURE))
    for verb in (machine.up, machine.stop, machine.state, lambda: machine.init(Source(box.spec))):
        with pytest.raises(B2dError, match="newer b2d") as caught:
            verb()
        assert "upgrade" in caught.value.hint
    assert json.loads(box.paths.spec.read_text()) == IN_THE_FUTURE
    machine.delete()
    assert not box.paths.folder.exists()


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["env", "known_hosts", "id_ed25519.pub", "seed.img", "serial.log", "screen.png"])
def test_a_damaged_file_that_b2d_can_recreate_does_no_harm(box: Box, name: str, damage: str) -> None:
    machine = box.in_state(RUNNING)
    path = box.paths.folder / name
    path.touch()
    DAMAGE[damage](path)
    assert machine.state() == RUNNING
    if damage == "a folder" and name != "env":
        return  # the error, which names the path, is tested elsewhere
    machine.stop()
    machine.up()
    assert machine.facts() == box.store.read_env("box")


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "missing"])
def test_damaged_certificates_are_recreated(box: Box, damage: str) -> None:
    machine = box.create_machine(tls=True)
    machine.up()
    names = [path.relative_to(box.paths.folder) for path in box.paths.folder.glob("*/*.pem")]
    assert len(names) == 6
    for name in names:
        machine.stop()
        DAMAGE[damage](box.paths.folder / name)
        machine.up()


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage"])
@pytest.mark.parametrize("name", ["id_ed25519", "host_ed25519"])
def test_a_damaged_key_is_reported_with_a_hint_that_works(box: Box, name: str, damage: str) -> None:
    machine = box.create_machine()
    DAMAGE[damage](box.paths.folder / name)
    with pytest.raises(B2dError, match=name) as caught:
        machine.up()
    away, restart = caught.value.hint.split(" && ")
    assert restart == "b2d restart --vm box"
    subprocess.run(["sh", "-c", away], check=True)
    machine.restart()


def test_an_invalid_holder_file_does_not_lock(box: Box) -> None:
    machine = box.create_machine()
    for damage in ("empty", "garbage", "of zeros"):
        box.paths.holder.touch()
        DAMAGE[damage](box.paths.holder)
        machine.up()
    box.paths.holder.mkdir()
    assert machine.stop() is True
    box.paths.holder.rmdir()


# the command itself, with QEMU's driver


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    return two_machines(tmp_path)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_machine_hides_no_other_and_is_removed(prompt: Prompt, damage: str) -> None:
    DAMAGE[damage](prompt.home.machine("box").spec)
    result = prompt.b2d("list", "--json")
    assert result.code == 0
    assert [(row["name"], row["state"]) for row in json.loads(result.out)] == [("near", "stopped"), ("box", "unknown")][
        :: 1 if damage in ("missing", "a folder") else -1
    ]
    assert "b2d up --vm box" in result.err
    assert prompt.b2d("status", "--vm", "near").out == "stopped\n"
    refused = prompt.b2d("delete", "--vm", "box")
    assert (refused.code, "--yes" in refused.err) == (2, True)
    result = prompt.b2d("delete", "--yes", "--vm", "box")
    assert (result.code, result.err.splitlines()[-1]) == (0, "box is deleted")
    assert ("which was moved to" in result.err) is (damage == "a folder")
    assert not prompt.home.machine("box").folder.exists()
    assert [row["name"] for row in json.loads(prompt.b2d("list", "--json").out)] == ["near"]


def record_running(paths: MachinePaths, process: ProcessIdentity | None) -> None:
    assert process is not None
    paths.qemu_pid.write_text(f"{process.pid}\n")
    qemu = QemuProcess(paths)
    qemu.record(Launch(Endpoint("127.0.59.103", 2022, 2376), [], "0" * 64, process, disk=qemu.disk()))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_running_machine_without_a_description_is_killed_before_its_disk_is_deleted(
    prompt: Prompt, program: "subprocess.Popen[bytes]", damage: str
) -> None:
    paths = prompt.home.machine("box")
    record_running(paths, identify(program.pid))
    for path in (paths.spec, paths.spec_copy):
        DAMAGE[damage](path)
    assert prompt.b2d("delete", "--yes", "--vm", "box").code == 0
    assert program.wait(5) != 0
    assert not paths.folder.exists()


def test_deleting_a_copied_folder_leaves_the_original_machine_running(
    prompt: Prompt, program: "subprocess.Popen[bytes]"
) -> None:
    record_running(prompt.home.machine("box"), identify(program.pid))
    shutil.copytree(prompt.home.machine("box").folder, prompt.home.machine("twin").folder)
    assert prompt.b2d("delete", "--yes", "--vm", "twin").code == 0
    assert program.poll() is None
    assert prompt.b2d("status", "--vm", "box").out == "running\n"


@pytest.mark.parametrize("damage", [damage for damage in DAMAGE if damage != "another's"])
@pytest.mark.parametrize("name", ["qemu.pid", "qemu.json"])
def test_a_process_is_found_by_its_record_and_never_by_a_pid_file_alone(
    prompt: Prompt, program: "subprocess.Popen[bytes]", name: str, damage: str
) -> None:
    """The pid alone proves nothing, but the record alone does."""
    paths = prompt.home.machine("box")
    record_running(paths, identify(program.pid))
    DAMAGE[damage](paths.folder / name)
    result = prompt.b2d("status", "--vm", "box")
    assert result.out == ("running\n" if name == "qemu.pid" else "crashed\n")
    assert prompt.b2d("poweroff", "--vm", "box").code == 0
    assert prompt.b2d("status", "--vm", "box").out == "stopped\n"
    assert (program.poll() is None) is (name == "qemu.json")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_settings_are_reported_with_their_file_and_a_damaged_draft_is_ignored(
    prompt: Prompt, damage: str
) -> None:
    prompt.home.config.write_text("memory = 1024\ncpus = 2 # of four\n")
    prompt.home.config_draft.write_text("memory = 2048\n")
    DAMAGE[damage](prompt.home.config_draft)
    assert prompt.b2d("list").code == 0
    DAMAGE[damage](prompt.home.config)
    result = prompt.b2d("list")
    assert (result.code, result.err == "") in ((0, True), (2, False))
    assert result.code == 0 or "config.toml" in result.err


def test_removal_covers_every_hypervisor_with_files(box: Box) -> None:
    box.store.write(a_spec("box", driver="virtualbox"))
    assert [spec.driver for spec in specs_for_removal(box.store, "box")] == ["virtualbox"]
    for path in (box.paths.spec, box.paths.spec_copy):
        path.write_bytes(b"")
    assert specs_for_removal(box.store, "box") == []
    box.paths.disk_qcow2.touch()
    box.paths.virtualbox.mkdir()
    assert [(spec.name, spec.driver) for spec in specs_for_removal(box.store, "box")] == [
        ("box", "qemu"),
        ("box", "virtualbox"),
    ]


@pytest.mark.parametrize(("disk", "driver"), [("disk.qcow2", "qemu"), ("disk.vdi", "virtualbox")])
def test_a_machine_without_its_description_uses_the_hypervisor_of_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: str, driver: str
) -> None:
    monkeypatch.setattr("b2d.drivers.virtualbox.installation.SearchPaths.can_start", lambda _: driver == "qemu")
    app = wiring.make_app({"B2D_HOME": str(tmp_path)}, {"vm": "box"}, FakeReporter())
    app.home.machine("box").folder.mkdir(parents=True)
    (app.home.machine("box").folder / disk).touch()
    assert app.hypervisor() == driver
