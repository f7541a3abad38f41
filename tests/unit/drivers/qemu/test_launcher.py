"""QEMU's start, recorded by a program in its place: nothing boots."""

import json
import os
import socket
from pathlib import Path

import pytest

from b2d.drivers.qemu.accelerator import Accelerator
from b2d.drivers.qemu.driver import QemuDriver, QemuSettings
from b2d.drivers.qemu.launcher import Launcher
from b2d.drivers.qemu.process import QemuProcess
from b2d.drivers.qemu.saved_state import Dependencies
from b2d.drivers.qemu.starting import Starter
from b2d.drivers.qemu.templates import Templates, key_of
from b2d.errors import HypervisorError, InvalidStateError, MachineNotFoundError, SavedStateError
from b2d.host.process_identity import identify
from b2d.models import HARDWARE, Image, MachineSpec, MachineState, ProcessIdentity
from b2d.paths import Home, MachinePaths
from tests.support import tiny_guest
from tests.support.fakes import a_spec
from tests.unit.drivers.qemu.test_command_line import DIRECT


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePaths:
    """Create a machine's folder, on a host with a QEMU that records its arguments and exits."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "qemu-system-x86_64"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/called"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    paths = MachinePaths(tmp_path / "m")
    paths.folder.mkdir(mode=0o700)
    return paths


def driver(paths: MachinePaths, spec: MachineSpec, image: Image = DIRECT) -> QemuDriver:
    return QemuDriver(spec, paths, lambda: image, QemuSettings("tcg"))


def write_saved_state(paths: MachinePaths, spec: MachineSpec, **changes: object) -> None:
    """Write the files of a saved machine with that spec."""
    driver(paths, spec).create(b"payload")
    hardware = Launcher(spec, paths, lambda: DIRECT, "tcg").plan().hardware
    document = Dependencies("7.2", hardware, DIRECT.sha256)._asdict() | changes
    paths.qemu_saved.write_text(json.dumps(document))


def qemu_arguments(paths: MachinePaths, spec: MachineSpec) -> list[str]:
    """Start the machine and return QEMU's arguments."""
    with pytest.raises(HypervisorError):
        driver(paths, spec).start()
    return (paths.folder.parent / "called").read_text().splitlines()


def test_a_saved_machine_resumes_with_its_previous_memory_and_cpus(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()
    write_saved_state(paths, spec)
    words = qemu_arguments(paths, spec._replace(memory_mib=640, cpus=7, ssh_port=spec.ssh_port + 2))
    assert words[words.index("-m") + 1] == f"{spec.memory_mib}M"
    assert words[words.index("-smp") + 1] == str(spec.cpus)
    assert words[-1] == "-S"
    assert f":{spec.ssh_port + 2}-:22" in words[words.index("-netdev") + 1]
    assert paths.qemu_saved.exists()


@pytest.mark.parametrize("hardware", [[], ["-m"], ["-m", "lots", "-smp", "1"], ["-m", "512M", "-smp", "1"]])
def test_a_state_of_other_hardware_is_discarded_and_the_machine_boots_with_its_spec(
    paths: MachinePaths, hardware: list[str]
) -> None:
    spec = tiny_guest.spec()._replace(hardware=HARDWARE)
    write_saved_state(paths, spec, hardware=hardware)
    words = qemu_arguments(paths, spec._replace(memory_mib=640))
    assert words[words.index("-m") + 1] == "640M"
    assert "-S" not in words
    assert not paths.qemu_saved.exists()


def test_a_state_that_does_not_fit_older_hardware_is_an_error_and_nothing_boots(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()
    write_saved_state(paths, spec, hardware=[])
    with pytest.raises(SavedStateError):
        driver(paths, spec).start()
    assert not (paths.folder.parent / "called").exists()
    assert driver(paths, spec).state() == MachineState.STOPPED


def test_the_log_of_qemu_is_the_reason_of_a_failed_start(paths: MachinePaths) -> None:
    program = paths.folder.parent / "bin" / "qemu-system-x86_64"
    program.write_text('#!/bin/sh\necho "qemu: no luck" >&2\nexit 1\n')
    machine = driver(paths, tiny_guest.spec())
    machine.create(b"payload")
    with pytest.raises(HypervisorError, match="no luck"):
        machine.start()
    assert paths.qemu_log.read_text() == "qemu: no luck\n"
    assert paths.qemu_log.stat().st_mode & 0o777 == 0o600


def test_a_stopped_machine_has_a_disk_and_no_effective_spec(paths: MachinePaths) -> None:
    machine = driver(paths, tiny_guest.spec())
    assert machine.disk_mib() == 0
    with pytest.raises(MachineNotFoundError):
        machine.grow_disk(1000)
    machine.create(b"payload")
    assert machine.effective_spec() is None
    assert machine.disk_mib() == tiny_guest.spec().disk_mib
    machine.grow_disk(1000)
    assert machine.disk_mib() == 1000
    assert machine.state() == MachineState.STOPPED


def test_the_disk_of_a_saved_machine_cannot_grow(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()
    write_saved_state(paths, spec)
    with pytest.raises(InvalidStateError) as caught:
        driver(paths, spec).grow_disk(1000)
    assert caught.value.hint == "b2d up && b2d stop"
    assert driver(paths, spec).disk_mib() == spec.disk_mib


def test_the_effective_spec_is_that_of_the_start(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()
    machine = driver(paths, spec)
    machine.create(b"payload")
    plan = Launcher(spec, paths, lambda: DIRECT, "tcg").plan()
    paths.qemu_pid.write_text(f"{os.getpid()}\n")
    QemuProcess(paths).record(plan._replace(process=identify(os.getpid())))
    assert driver(paths, spec._replace(memory_mib=640)).effective_spec() == spec
    QemuProcess(paths).record(plan._replace(process=ProcessIdentity(os.getpid(), "an earlier one", "")))
    assert machine.effective_spec() is None


def test_the_hardware_of_a_held_guest_is_the_same_for_all_machines_of_a_shape(paths: MachinePaths) -> None:
    spec = a_spec("box", hardware=HARDWARE, folders=("/data", "/work:ro"))

    def held(changed: MachineSpec, paths: MachinePaths) -> list[str]:
        return Launcher(changed, paths, lambda: DIRECT, "tcg", "9p").held_hardware()

    first = held(spec, paths)
    assert str(paths.folder) not in " ".join(first)
    assert "b2d.hold" in first[first.index("-append") + 1].split()
    elsewhere = MachinePaths(Path("/elsewhere/machines/box"))
    for same in (
        *(spec._replace(name="other"), spec._replace(address="127.0.0.9"), spec._replace(ssh_port=9)),
        *(spec._replace(restrict=True), spec._replace(disk_mib=9000), spec._replace(tls=False)),
        spec._replace(folders=("/other:ro", "/more")),
    ):
        assert held(same, elsewhere) == first, same
    for other in (spec._replace(memory_mib=640), spec._replace(folders=("/data",)), spec._replace(folders=())):
        assert held(other, paths) != first, other


def test_a_failure_of_every_start_is_no_fault_of_the_template(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()._replace(hardware=HARDWARE)
    starter = Starter(spec, paths, lambda: DIRECT, QemuSettings("tcg", "9p", templates=100))
    key = key_of(starter.launcher().held_hardware(), DIRECT.system, Accelerator("tcg"))
    templates = Templates(Home(paths.home).templates, 100)
    with templates.add(key, DIRECT.system) as draft:
        os.write(draft.state, b"state")
    driver(paths, spec).create(b"payload")
    assert templates.find(starter._keys()[0]) is not None
    with pytest.raises(HypervisorError, match="QEMU did not start"):  # from the template, then by a boot
        starter.start()
    arguments = (paths.folder.parent / "called").read_text().splitlines()
    assert "-incoming" not in arguments
    with (
        socket.create_server((spec.address, spec.ssh_port)),
        pytest.raises(HypervisorError, match="is used by another"),
    ):
        starter.start()
    assert templates.find(key) is not None
