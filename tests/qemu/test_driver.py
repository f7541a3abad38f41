"""The QEMU driver beyond the contract: save, resume, and recovery from every failure."""

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from b2d.drivers.qemu.driver import QemuDriver, QemuSettings
from b2d.drivers.qemu.launcher import Launcher
from b2d.drivers.qemu.qmp import Qmp
from b2d.errors import B2dError, HypervisorError, PortInUseError
from b2d.host import processes
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify
from b2d.models import HARDWARE, Image, MachineSpec, MachineState
from b2d.network import port_allocation
from b2d.paths import MachinePaths
from tests.support import tiny_guest

pytestmark = pytest.mark.qemu


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    return tiny_guest.folder(tmp_path / "m")


@pytest.fixture
def make(paths: MachinePaths, tiny_image: Image) -> Iterator[Callable[..., QemuDriver]]:
    """Return a factory of drivers of one machine; its keywords are fields of the spec."""
    spec = tiny_guest.spec()

    def driver(image: Image = tiny_image, **changes: object) -> QemuDriver:
        return QemuDriver(spec._replace(**changes), paths, lambda: image, QemuSettings("tcg"))  # type: ignore[arg-type]

    driver().create(b"payload")
    yield driver
    driver().delete()


def wait_for_count(driver: QemuDriver, number: int) -> None:
    wait_until(
        lambda: max(tiny_guest.counts(driver.console()), default=0) >= number,
        condition=f"the count of {number}",
        timeout_s=tiny_guest.BOOT_TIMEOUT_S,
    )


def snapshots(paths: MachinePaths) -> list[object]:
    facts = json.loads(
        processes.check(["qemu-img", "info", "-U", "--output=json", str(paths.disk_qcow2)], timeout_s=60)
    )
    return list(facts.get("snapshots", []))


def test_a_resumed_guest_continues_and_its_disk_never_reverts(
    make: Callable[..., QemuDriver], paths: MachinePaths
) -> None:
    driver = make()
    driver.start()
    wait_for_count(driver, 3)
    driver.save()
    before = max(tiny_guest.counts(driver.console()))
    assert len(snapshots(paths)) == 1

    driver.start()
    assert snapshots(paths) == []  # before the guest has done anything
    wait_for_count(driver, before + 3)
    assert tiny_guest.counts(driver.console())[0] == before + 1
    assert tiny_guest.initial_counts(driver.console()) == []  # it did not boot
    driver.kill()
    after = max(tiny_guest.counts(driver.console()))

    driver.start()
    wait_until(
        lambda: tiny_guest.initial_counts(driver.console()) != [],
        condition="the boot",
        timeout_s=tiny_guest.BOOT_TIMEOUT_S,
    )
    assert tiny_guest.initial_counts(driver.console())[0] >= after


def start_and_save(driver: QemuDriver) -> None:
    driver.start()
    wait_for_count(driver, 1)
    driver.save()


def assert_boots(driver: QemuDriver, paths: MachinePaths) -> None:
    """Assert that the machine boots with its disk unchanged, and that no saved state is left."""
    driver.start()
    wait_until(
        lambda: tiny_guest.initial_counts(driver.console()) != [],
        condition="the boot",
        timeout_s=tiny_guest.BOOT_TIMEOUT_S,
    )
    assert tiny_guest.initial_counts(driver.console())[0] >= 1
    assert not paths.qemu_saved.exists()
    assert snapshots(paths) == []


def test_a_state_of_another_qemu_is_discarded_and_the_machine_boots(
    make: Callable[..., QemuDriver], paths: MachinePaths
) -> None:
    start_and_save(make(hardware=HARDWARE))
    document = json.loads(paths.qemu_saved.read_text())
    paths.qemu_saved.write_text(json.dumps(document | {"qemu": "0.0.1"}))
    assert_boots(make(hardware=HARDWARE), paths)


def test_a_state_of_another_machine_is_discarded_and_the_machine_boots(
    make: Callable[..., QemuDriver], paths: MachinePaths
) -> None:
    start_and_save(make(hardware=HARDWARE))
    assert_boots(make(hardware=HARDWARE, restrict=True), paths)


def test_a_saved_machine_resumes_with_its_old_memory_after_a_change(make: Callable[..., QemuDriver]) -> None:
    start_and_save(make())
    woken = make(memory_mib=640)
    woken.start()
    wait_until(
        lambda: tiny_guest.counts(woken.console()) != [], condition="the guest", timeout_s=tiny_guest.BOOT_TIMEOUT_S
    )
    assert tiny_guest.initial_counts(woken.console()) == []
    measured = woken.effective_spec()
    assert measured is not None
    assert measured.memory_mib == tiny_guest.spec().memory_mib
    woken.save()
    woken.start()  # once more
    assert woken.effective_spec() == measured
    woken.kill()
    woken.start()
    assert woken.effective_spec() == measured._replace(memory_mib=640)


def test_a_missing_saved_state_makes_the_machine_boot(make: Callable[..., QemuDriver], paths: MachinePaths) -> None:
    start_and_save(make(hardware=HARDWARE))
    processes.check(["qemu-img", "snapshot", "-d", "b2d-saved", str(paths.disk_qcow2)], timeout_s=60)
    assert_boots(make(hardware=HARDWARE), paths)


def test_a_port_that_is_taken_just_before_qemu_starts_is_named(
    make: Callable[..., QemuDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_guest.spec()
    monkeypatch.setattr(port_allocation, "require_free", lambda address, ports: None)
    with socket.create_server((spec.address, spec.docker_port)), pytest.raises(PortInUseError) as caught:
        make().start()
    assert f"{spec.address}:{spec.docker_port}" in caught.value.message
    assert make().state() == MachineState.STOPPED


def test_a_machine_resumes_on_other_ports(make: Callable[..., QemuDriver], tiny_image: Image) -> None:
    start_and_save(make())
    spec = tiny_guest.spec()
    woken = make(ssh_port=spec.ssh_port + 2, docker_port=spec.docker_port + 2)
    woken.start()
    assert woken.endpoint().ssh_port == spec.ssh_port + 2
    wait_until(
        lambda: tiny_guest.counts(woken.console()) != [], condition="the guest", timeout_s=tiny_guest.BOOT_TIMEOUT_S
    )
    assert tiny_guest.initial_counts(woken.console()) == []


def test_a_failed_save_leaves_the_machine_running(make: Callable[..., QemuDriver], paths: MachinePaths) -> None:
    driver = make()
    driver.start()
    wait_for_count(driver, 1)
    paths.qemu_saved.mkdir()  # the path of the last file of a save
    (paths.qemu_saved / "obstacle").touch()
    with pytest.raises(B2dError, match="continues to run"):
        driver.save()
    assert driver.state() == MachineState.RUNNING
    assert snapshots(paths) == []
    (paths.qemu_saved / "obstacle").unlink()
    paths.qemu_saved.rmdir()
    wait_for_count(driver, max(tiny_guest.counts(driver.console())) + 2)


def test_a_save_interrupted_at_its_end_cannot_revert_the_disk(
    make: Callable[..., QemuDriver], paths: MachinePaths
) -> None:
    driver = make()
    start_and_save(driver)
    content = paths.qemu_saved.read_bytes()
    driver.start()
    with Qmp(paths.qmp_socket) as qmp:  # the state after b2d was killed between the save and QEMU's end
        qmp.execute("stop")
        qmp.run_job("snapshot-save", 60, tag="b2d-saved", vmstate="data", devices=["data"])
    paths.qemu_saved.write_bytes(content)
    assert driver.state() == MachineState.PAUSED
    driver.start()
    assert driver.state() == MachineState.RUNNING
    assert not paths.qemu_saved.exists()
    assert snapshots(paths) == []


def test_a_process_of_an_interrupted_start_is_found(make: Callable[..., QemuDriver], paths: MachinePaths) -> None:
    driver = make()
    driver.start()
    process = driver.process()
    document = json.loads(paths.qemu_record.read_text())
    paths.qemu_record.write_text(json.dumps(document | {"process": None}))
    assert driver.process() == process
    assert driver.state() == MachineState.RUNNING
    driver.kill()
    assert process is not None
    assert identify(process.pid) != process


def test_a_port_in_use_is_named_and_nothing_is_started(make: Callable[..., QemuDriver]) -> None:
    driver = make()
    with socket.socket() as other:
        spec = tiny_guest.spec()
        other.bind((spec.address, spec.docker_port))
        other.listen(1)
        driver = make(docker_port=spec.docker_port)
        with pytest.raises(HypervisorError, match=f"port {spec.docker_port} of {spec.address} is used"):
            driver.start()
    assert driver.state() == MachineState.STOPPED


def test_the_output_of_qemu_is_in_the_details_of_a_failed_start(
    make: Callable[..., QemuDriver], tiny_image: Image, paths: MachinePaths
) -> None:
    driver = make(image=tiny_image._replace(stored=paths.folder / "absent.iso"))
    with pytest.raises(HypervisorError, match=r"absent\.iso") as caught:
        driver.start()
    assert "absent.iso" in caught.value.details
    assert driver.state() == MachineState.STOPPED
    assert not paths.qemu_record.exists()


def test_the_machine_listens_only_on_its_own_address(make: Callable[..., QemuDriver]) -> None:
    driver = make()
    driver.start()
    endpoint = driver.endpoint()
    for port in (endpoint.ssh_port, endpoint.docker_port):
        socket.create_connection((endpoint.address, port), 2).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 2)


def test_console_log_and_control_socket_are_private(make: Callable[..., QemuDriver], paths: MachinePaths) -> None:
    before = os.umask(0)
    try:
        make().start()
    finally:
        os.umask(before)
    assert stat.S_IMODE(paths.serial_log.stat().st_mode) == 0o600
    assert stat.S_IMODE(paths.qmp_socket.parent.stat().st_mode) == 0o700


def test_a_world_readable_folder_is_refused_for_the_control_socket(
    make: Callable[..., QemuDriver], paths: MachinePaths
) -> None:
    paths.folder.chmod(0o755)
    with pytest.raises(HypervisorError, match="0700"):
        make().start()


def test_a_home_too_deep_for_socket_paths_works(tiny_image: Image, tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path / ("deep" * 30))
    paths.folder.mkdir(mode=0o700)
    paths.seed.write_bytes(bytes(2048))
    driver = QemuDriver(tiny_guest.spec(), paths, lambda: tiny_image, QemuSettings("tcg"))
    driver.create(b"payload")
    before = Path.cwd()
    try:
        driver.start()
        assert paths.qmp_socket.is_socket()
        assert driver.state() == MachineState.RUNNING
        driver.save()
        assert driver.state() == MachineState.SAVED
        driver.start()
        assert driver.state() == MachineState.RUNNING
    finally:
        driver.delete()
    assert Path.cwd() == before
    assert [path.name for path in paths.folder.iterdir()] == ["seed.img"]


def test_delete_leaves_only_files_that_the_driver_did_not_create(
    make: Callable[..., QemuDriver], paths: MachinePaths
) -> None:
    driver = make()
    driver.start()
    driver.delete()
    assert [path.name for path in paths.folder.iterdir()] == ["seed.img"]


@pytest.mark.parametrize(("cpus", "count"), [(1, 0), (0, 0), (2, 1)])
def test_one_cpu_instead_of_several_is_reported_if_several_were_requested(
    paths: MachinePaths,
    tiny_image: Image,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpus: int,
    count: int,
) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\necho QEMU emulator version 7.2.22\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    launcher = Launcher(spec_with(cpus), paths, lambda: tiny_image, "tcg")
    lines = launcher.limitations()
    assert len(lines) == count
    assert all(f"instead of {cpus}" in line for line in lines)
    hardware = launcher.plan().hardware
    assert hardware[hardware.index("-smp") + 1] == "1"


def test_a_qemu_with_reliable_multi_cpu_emulation_gets_several_cpus(
    paths: MachinePaths, tiny_image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\necho 'QEMU emulator version 10.0.2 (Debian 1:10.0.2)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    launcher = Launcher(spec_with(2), paths, lambda: tiny_image, "tcg")
    assert launcher.limitations() == []
    hardware = launcher.plan().hardware
    assert hardware[hardware.index("-smp") + 1] == "2"


def spec_with(cpus: int) -> MachineSpec:
    return tiny_guest.spec()._replace(cpus=cpus)
