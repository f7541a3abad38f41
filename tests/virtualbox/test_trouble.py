"""Outside changes and failures of a real VirtualBox, and b2d's reaction."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2d.errors import B2dError, HypervisorError, MachineLockedError, MachineNotFoundError, SavedStateError
from b2d.host.polling import wait_until
from b2d.models import HARDWARE, MachineState
from tests.support import tiny_guest
from tests.support.paths import ROOT
from tests.support.virtualbox_case import VirtualBoxCase, save_by_hand, vboxmanage

pytestmark = pytest.mark.virtualbox
HOLD = """
import sys, time
from pathlib import Path
from b2d.drivers.virtualbox.client import VirtualBox
from b2d.drivers.virtualbox.installation import SearchPaths
from b2d.drivers.virtualbox.machine import VirtualBoxMachine
machine = VirtualBoxMachine.find(VirtualBox(SearchPaths().vboxapi()), Path(sys.argv[1]))
with machine._session(machine._library.LockType.write):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
# one process that outlives the service, as a concurrent b2d would
SEE_THE_END = """
import os, signal, sys
from pathlib import Path
from b2d.errors import HypervisorError
from tests.virtualbox.elsewhere import driver, service
machine = driver(Path(sys.argv[1]))
print(machine.state(), flush=True)
os.kill(service(), signal.SIGKILL)
try:
    print(machine.state())
except HypervisorError as error:
    print(error.message, flush=True)
    os._exit(6)
"""


@contextmanager
def hold_machine(machine: VirtualBoxCase, seconds: float) -> Iterator[int]:
    """Hold the machine's lock in another program for that time, and yield its pid."""
    command = [sys.executable, "-c", HOLD, str(machine.paths.virtualbox_settings), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield other.pid
        finally:
            other.kill()


def test_a_port_in_use_is_found_before_the_start(machine: VirtualBoxCase) -> None:
    taken = machine.spec.docker_port
    with (
        socket.create_server((machine.spec.address, taken)),
        pytest.raises(HypervisorError, match=f"port {taken} of .* is used"),
    ):
        machine.driver().start()
    assert machine.driver().state() == MachineState.STOPPED


def test_a_machine_locked_by_another_program_is_waited_for(machine: VirtualBoxCase) -> None:
    with hold_machine(machine, 1.5):
        begin = time.monotonic()
        machine.driver().start()
        assert time.monotonic() - begin > 1
    assert machine.driver().state() == MachineState.RUNNING


def test_a_program_that_locks_a_machine_too_long_is_named(machine: VirtualBoxCase) -> None:
    with hold_machine(machine, 60) as pid:
        with pytest.raises(MachineLockedError, match=f"locked .*process {pid}"):
            machine.driver().start()
        with pytest.raises(MachineLockedError, match=f"process {pid}"):
            machine.driver().delete()
    machine.driver().start()


def test_a_machine_that_was_saved_outside_b2d_resumes(machine: VirtualBoxCase) -> None:
    machine.boot()
    save_by_hand(machine.spec.name)
    assert machine.driver().state() == MachineState.SAVED
    before = tiny_guest.counts(machine.driver().console())[-1]
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING
    wait_until(lambda: tiny_guest.counts(machine.driver().console()) != [], condition="the guest", timeout_s=30)
    assert tiny_guest.counts(machine.driver().console())[0] > before


def save_and_break(machine: VirtualBoxCase) -> Path:
    machine.boot()
    machine.driver().save()
    (state,) = machine.paths.virtualbox.rglob("*.sav")
    state.write_bytes(b"nothing" * 1000)
    return state


def test_an_unusable_saved_state_is_discarded_and_the_machine_boots(machine: VirtualBoxCase) -> None:
    state = save_and_break(machine)
    machine.driver().start()
    assert machine.driver().state() == MachineState.RUNNING
    assert not state.exists()


def test_a_machine_of_older_hardware_with_an_unusable_state_is_stopped(machine: VirtualBoxCase) -> None:
    """It boots with the current hardware, which its caller chooses."""
    machine.spec = machine.spec._replace(hardware=HARDWARE - 1)
    state = save_and_break(machine)
    with pytest.raises(SavedStateError, match="cannot resume its saved state"):
        machine.driver().start()
    assert machine.driver().state() == MachineState.STOPPED
    assert not state.exists()


def test_settings_changed_from_outside_are_corrected_at_the_next_start(machine: VirtualBoxCase) -> None:
    vboxmanage("modifyvm", machine.spec.name, "--memory", "100", "--name", "another", "--uart1", "off")
    machine.boot()
    assert "memory=64\n" in vboxmanage("showvminfo", machine.spec.name, "--machinereadable")


def test_a_machine_deleted_from_outside_is_absent_and_can_be_created_again(machine: VirtualBoxCase) -> None:
    vboxmanage("unregistervm", machine.spec.name, "--delete")
    assert machine.driver().state() == MachineState.ABSENT
    machine.driver().delete()
    machine.driver().create(b"payload")
    assert machine.driver().state() == MachineState.STOPPED


def test_delete_removes_snapshots_and_leaves_foreign_disks(machine: VirtualBoxCase, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.vdi"
    vboxmanage("createmedium", "disk", "--filename", str(theirs), "--size", "8")
    vboxmanage("storagectl", machine.spec.name, "--name", "SATA", "--portcount", "4")
    attach = ("storageattach", machine.spec.name, "--storagectl", "SATA", "--type", "hdd")
    vboxmanage(*attach, "--port", "3", "--medium", str(theirs), "--mtype", "writethrough")
    vboxmanage("snapshot", machine.spec.name, "take", "one")
    machine.driver().delete()
    assert not machine.paths.virtualbox.exists() and not machine.paths.disk_vdi.exists()
    assert theirs.exists() and str(theirs) in vboxmanage("list", "hdds")
    vboxmanage("closemedium", "disk", str(theirs), "--delete")
    assert str(machine.paths.folder) not in vboxmanage("list", "hdds")


def test_an_error_of_virtualbox_at_the_start_is_one_sentence(machine: VirtualBoxCase) -> None:
    vboxmanage("modifyvm", machine.spec.name, "--nic3", "hostonly", "--host-only-adapter3", "vboxnet77")
    with pytest.raises(HypervisorError) as caught:
        machine.driver().start()
    assert "vboxnet77" in caught.value.message and "\n" not in caught.value.message
    assert machine.driver().state() == MachineState.STOPPED


def test_a_missing_iso_is_named(machine: VirtualBoxCase, tmp_path: Path) -> None:
    iso = tmp_path / "mine.iso"
    shutil.copy(machine.image.iso, iso)
    machine.image = machine.image._replace(iso=iso)
    iso.unlink()
    with pytest.raises(B2dError, match=r"mine\.iso does not exist"):
        machine.driver().start()
    assert machine.driver().state() == MachineState.STOPPED


def test_a_machine_without_its_disk_is_absent(machine: VirtualBoxCase) -> None:
    machine.paths.disk_vdi.unlink()
    assert machine.driver().state() == MachineState.ABSENT
    with pytest.raises(MachineNotFoundError):
        machine.driver().start()


def run_in_process(home: Path, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a separate process with a VirtualBox service of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env=os.environ | {"VBOX_USER_HOME": str(home / "vbox"), "VBOX_IPC_SOCKETID": home.name},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


MAKE = (
    "import pathlib, sys; from tests.virtualbox.elsewhere import driver\nmachine = driver(pathlib.Path(sys.argv[1]))\n"
)

# exits as b2d's command does: VirtualBox's thread that loses the service now may loop forever
END = """
import os, signal
from tests.virtualbox.elsewhere import service
machine.state()
os.kill(service(), signal.SIGKILL)
os._exit(0)
"""
ASK = """
from b2d.errors import HypervisorError
try:
    print(machine.state())
except HypervisorError as error:
    print(error.message, error.hint)
"""


def test_a_killed_service_is_reported_in_one_sentence_and_the_next_command_works(
    own_virtualbox: Path, tmp_path: Path
) -> None:
    created = run_in_process(tmp_path, MAKE + "machine.create(b'payload')", tmp_path)
    assert created.returncode == 0, created.stderr
    killed = run_in_process(tmp_path, SEE_THE_END, tmp_path)
    assert (killed.returncode, killed.stderr) == (6, "")
    state, message = killed.stdout.splitlines()
    assert state == "stopped" and "VBoxSVC" in message
    assert run_in_process(tmp_path, MAKE + "print(machine.state())", tmp_path).stdout == "stopped\n"
    assert run_in_process(tmp_path, MAKE + "machine.delete(); print(machine.state())", tmp_path).stdout == "absent\n"


def test_a_machine_without_settings_is_reported_and_can_be_deleted(own_virtualbox: Path, tmp_path: Path) -> None:
    assert run_in_process(tmp_path, MAKE + "machine.create(b'payload')", tmp_path).returncode == 0
    ended = run_in_process(tmp_path, MAKE + END, tmp_path)
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "machine" / "virtualbox" / "machine.vbox").unlink()
    stdout = run_in_process(tmp_path, MAKE + ASK, tmp_path).stdout
    assert "cannot read the settings" in stdout and "b2d delete" in stdout
    completed = run_in_process(tmp_path, MAKE + "machine.delete(); print(machine.state())", tmp_path)
    assert (completed.stdout, completed.stderr) == ("absent\n", "")
    assert not (tmp_path / "machine" / "disk.vdi").exists()
