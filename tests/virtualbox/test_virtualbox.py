"""The VirtualBox driver beyond the contract: paths, and foreign settings that stay untouched."""

import os
import re
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from b2d.drivers import control_port
from b2d.drivers.virtualbox import client
from b2d.drivers.virtualbox import machine as machine_of_virtualbox
from b2d.drivers.virtualbox.client import VirtualBox
from b2d.drivers.virtualbox.driver import VirtualBoxDriver
from b2d.drivers.virtualbox.hardware import LINK_UP_DELAY, no_network_card
from b2d.drivers.virtualbox.host_only_network import DEVICE, second_card
from b2d.drivers.virtualbox.installation import SearchPaths
from b2d.drivers.virtualbox.machine import VirtualBoxMachine
from b2d.drivers.virtualbox.machine_state import read_state_file
from b2d.errors import B2dError, InvalidStateError
from b2d.guest import seed
from b2d.models import MachineState
from tests.support.virtualbox_case import VirtualBoxCase, vboxmanage

pytestmark = pytest.mark.virtualbox


def facts(case: VirtualBoxCase) -> dict[str, str]:
    """Return VirtualBox's description of the machine."""
    lines = vboxmanage("showvminfo", case.spec.name, "--machinereadable").splitlines()
    pairs = (line.partition("=") for line in lines)
    return {key.strip('"'): value.strip('"') for key, _, value in pairs}


def everything() -> tuple[str, str, str]:
    """Return all that VirtualBox has registered: machines, disks, CDs."""
    return vboxmanage("list", "vms"), vboxmanage("list", "hdds"), vboxmanage("list", "dvds")


def test_the_machine_follows_its_spec(machine: VirtualBoxCase) -> None:
    actual = facts(machine)
    assert (actual["memory"], actual["cpus"]) == ("64", "1")
    assert actual["ostype"].startswith("Linux 2.6 / 3.x") and actual["ostype"].endswith("(64-bit)")
    assert (actual["rtcuseutc"], actual["ioapic"], actual["pae"]) == ("on", "on", "on")
    assert (actual["boot1"], actual["boot2"], actual["audio"], actual["vram"]) == ("dvd", "none", "none", "9")
    assert (actual["nic1"], actual["nictype1"]) == ("nat", "82540EM")
    delay = vboxmanage("getextradata", machine.spec.name, LINK_UP_DELAY.format(0))
    assert delay == "Value: 0\n"
    assert actual["SATA-0-0"] == str(machine.paths.disk_vdi)
    assert actual["uart1"] and actual["uartmode1"] == f"file,{machine.paths.serial_log}"


def test_all_files_of_a_machine_are_in_its_folder(machine: VirtualBoxCase) -> None:
    machine.driver().start()
    machine.driver().save()
    home = Path(os.environ["VBOX_USER_HOME"])
    assert facts(machine)["CfgFile"] == str(machine.paths.virtualbox_settings)
    assert list(machine.paths.virtualbox.rglob("*.sav"))
    assert not [path for path in home.rglob("*") if path.suffix in (".sav", ".vdi", ".vbox")]


def test_the_disk_has_the_requested_size_and_starts_with_the_payload(case: VirtualBoxCase, tmp_path: Path) -> None:
    payload = seed.payload("ssh-ed25519 AAAA docker")
    case.driver().create(payload)
    raw = tmp_path / "raw"
    vboxmanage("clonemedium", "disk", str(case.paths.disk_vdi), str(raw), "--format", "RAW")
    try:
        content = raw.read_bytes()
    finally:
        vboxmanage("closemedium", "disk", str(raw), "--delete")
    assert len(content) == case.spec.disk_mib << 20
    assert content.startswith(payload) and not content[len(payload) :].strip(b"\0")
    with tarfile.open(fileobj=BytesIO(content[: seed.PAYLOAD_LIMIT + 1024])) as archive:
        assert archive.getnames()[0] == seed.MAGIC
    assert case.paths.disk_vdi.stat().st_mode & 0o077 == 0


def test_forwards_are_on_the_address_of_the_machine_and_foreign_rules_stay(machine: VirtualBoxCase) -> None:
    vboxmanage("modifyvm", machine.spec.name, "--nat-pf1", "web,tcp,127.0.59.249,18080,,80")
    machine.driver().start()
    machine.driver().kill()
    machine.spec = machine.spec._replace(ssh_port=machine.spec.ssh_port + 100)
    machine.driver().start()
    actual = facts(machine)
    rules = sorted(value for key, value in actual.items() if key.startswith("Forwarding("))
    spec = machine.spec
    assert rules == [
        f"b2d-docker,tcp,{spec.address},{spec.docker_port},,2376",
        f"b2d-ssh,tcp,{spec.address},{spec.ssh_port},,22",
        "web,tcp,127.0.59.249,18080,,80",
    ]
    assert machine.driver().endpoint().ssh_port == spec.ssh_port


def test_folders_are_shared_under_names_of_b2d_and_foreign_ones_stay(machine: VirtualBoxCase, tmp_path: Path) -> None:
    vboxmanage("sharedfolder", "add", machine.spec.name, "--name", "theirs", "--hostpath", str(tmp_path))
    existing, missing = tmp_path / "the re", tmp_path / "gone"
    existing.mkdir()
    machine.spec = machine.spec._replace(folders=(f"{tmp_path}:ro", str(missing), str(existing)))
    machine.driver().start()
    machine.driver().kill()
    machine.spec = machine.spec._replace(folders=(str(missing), str(existing)))
    machine.driver().start()
    actual = facts(machine)
    shared = {value: actual[key.replace("Name", "Path")] for key, value in actual.items() if "FolderNameMachine" in key}
    assert shared == {"theirs": str(tmp_path), "b2d-1": str(existing)}


def test_the_loopback_of_this_host_is_open_only_to_a_guest_that_uses_it(machine: VirtualBoxCase) -> None:
    empty = seed.Seed("box", "", b"", None)
    for network, is_open in ({seed.LOOPBACK: b"yes\n"}, True), ({}, False):
        machine.paths.seed.write_bytes(seed.image(replace(empty, network=network)))
        machine.driver().start()
        assert ('localhost-reachable="true"' in machine.paths.virtualbox_settings.read_text()) is is_open
        machine.driver().kill()


def test_the_original_iso_is_booted_if_uncompressed_boot_is_disabled(machine: VirtualBoxCase, tmp_path: Path) -> None:
    stored = tmp_path / "stored.iso"
    stored.write_bytes(machine.image.iso.read_bytes())
    machine.image = machine.image._replace(stored=stored)
    for uncompressed, iso in ((True, stored), (False, machine.image.iso)):
        driver = VirtualBoxDriver(machine.spec, machine.paths, lambda: machine.image, uncompressed_boot=uncompressed)
        driver.start()
        registered = VirtualBoxMachine.find(driver._client(), machine.paths.virtualbox_settings)
        assert registered is not None
        assert {stored, machine.image.iso} & set(registered.isos()) == {iso}
        driver.kill()


def test_a_guest_without_the_control_protocol_times_out(
    machine: VirtualBoxCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_port, "ANSWER_S", 0.5)
    machine.boot()
    assert machine.paths.line_socket.is_socket()
    with pytest.raises(B2dError, match="does not answer on its control port: timed out"):
        machine.driver().move_clock(60)
    assert machine.driver().state() == MachineState.RUNNING


def test_a_machine_can_be_saved_repeatedly(machine: VirtualBoxCase) -> None:
    for _ in range(5):
        machine.boot()
        machine.driver().save()
        assert read_state_file(machine.paths.virtualbox_settings) == machine.driver().state() == MachineState.SAVED


def test_a_saved_state_missing_in_the_settings_file_is_recorded(machine: VirtualBoxCase) -> None:
    machine.boot()
    client = machine.driver()._client()  # so that VirtualBox's service neither ends nor reads the file again
    machine.driver().save()
    settings = machine.paths.virtualbox_settings
    settings.write_text(re.sub(r' stateFile="[^"]*"', "", settings.read_text()))
    assert read_state_file(settings) == MachineState.STOPPED
    known = VirtualBoxMachine.find(client, settings)
    assert known is not None
    known.flush_settings()
    assert read_state_file(settings) == MachineState.SAVED


def test_a_saved_machine_resumes_at_other_ports(machine: VirtualBoxCase) -> None:
    machine.boot()
    machine.driver().save()
    machine.spec = machine.spec._replace(ssh_port=machine.spec.ssh_port + 100)
    machine.driver().start()
    assert machine.driver().endpoint().ssh_port == machine.spec.ssh_port


def test_the_guest_gets_the_seed_as_a_cd(machine: VirtualBoxCase) -> None:
    machine.paths.seed.write_bytes(b"b2d-seed" * 256)
    machine.driver().start()
    assert facts(machine)["IDE-1-0"] == str(machine.paths.virtualbox_seed)
    assert machine.paths.virtualbox_seed.read_bytes().startswith(b"b2d-seed")
    assert machine.paths.virtualbox_seed.stat().st_mode & 0o077 == 0


def test_a_machine_boots_the_current_image(machine: VirtualBoxCase, tmp_path: Path) -> None:
    machine.boot()
    machine.driver().kill()
    newer = tmp_path / "images" / "newer.iso"
    newer.parent.mkdir()
    newer.write_bytes(machine.image.iso.read_bytes())
    machine.image = machine.image._replace(iso=newer)
    machine.boot()
    assert facts(machine)["IDE-0-0"] == str(newer)


def test_a_deleted_machine_leaves_nothing_and_its_iso_stays(case: VirtualBoxCase, tmp_path: Path) -> None:
    before, files = everything(), sorted(case.paths.folder.rglob("*"))
    iso = tmp_path / "images" / "only.iso"
    iso.parent.mkdir()
    iso.write_bytes(case.image.iso.read_bytes())
    case.image = case.image._replace(iso=iso)
    case.driver().create(b"payload")
    case.driver().start()
    case.driver().delete()
    assert everything() == before
    assert sorted(case.paths.folder.rglob("*")) == files
    assert case.image.iso.exists()


@pytest.mark.parametrize(
    "step", ["VirtualBox.create", "VirtualBox.create_disk", "VirtualBoxMachine.edit", "VirtualBox.apply"]
)
@pytest.mark.parametrize("error", [KeyboardInterrupt, B2dError])
def test_a_failed_creation_leaves_nothing(
    case: VirtualBoxCase, monkeypatch: pytest.MonkeyPatch, step: str, error: type[BaseException]
) -> None:
    before, files = everything(), sorted(case.paths.folder.rglob("*"))
    name = step.partition(".")[0]
    owner = getattr(client if hasattr(client, name) else machine_of_virtualbox, name)
    really = getattr(owner, step.partition(".")[2])

    def breaks(*arguments: object) -> None:
        really(*arguments)
        raise error("in the middle")

    with monkeypatch.context() as patches:
        patches.setattr(owner, step.partition(".")[2], breaks)
        with pytest.raises(error):
            case.driver().create(b"payload")
    assert everything() == before
    assert sorted(case.paths.folder.rglob("*")) == files
    assert case.driver().state() == MachineState.ABSENT


def test_a_foreign_machine_of_the_same_name_is_refused_and_unchanged(case: VirtualBoxCase, tmp_path: Path) -> None:
    vboxmanage("createvm", "--name", case.spec.name, "--register", "--basefolder", str(tmp_path / "theirs"))
    try:
        before = everything()
        assert case.driver().state() == MachineState.ABSENT
        with pytest.raises(InvalidStateError, match=r"another machine named .*theirs"):
            case.driver().create(b"payload")
        case.driver().delete()
        case.driver().kill()
        assert everything() == before
    finally:
        vboxmanage("unregistervm", case.spec.name, "--delete")


def test_output_of_vboxapi_is_not_shown(tmp_path: Path) -> None:
    noisy = tmp_path / "vboxapi"
    noisy.mkdir()
    (noisy / "__init__.py").write_text(
        "import os, sys, subprocess\nprint('noise')\nprint('noise', file=sys.stderr)\nos.write(1, b'noise')\n"
        "subprocess.run(['sh', '-c', 'echo noise; echo noise >&2'])\nraise ImportError('no VBoxPython')\n"
    )
    completed = subprocess.run(
        [sys.executable, "-m", "b2d", "doctor"],
        env=os.environ | {"B2D_VBOXAPI": str(noisy), "B2D_HOME": str(tmp_path / "home"), "B2D_DRIVER": "virtualbox"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "virtualbox" in completed.stdout
    assert "noise" not in completed.stdout + completed.stderr


def test_the_doctor_shows_the_version(tmp_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "b2d", "doctor"],
        env=os.environ | {"B2D_HOME": str(tmp_path / "home"), "B2D_DRIVER": "virtualbox"},
        capture_output=True,
        text=True,
        check=False,
    )
    line = next(line for line in completed.stdout.splitlines() if "virtualbox" in line)
    assert str(SearchPaths().vboxapi()) in line
    assert vboxmanage("--version").strip().partition("r")[0] in line


def test_a_missing_host_only_network_is_reported_and_the_machine_starts(
    machine: VirtualBoxCase,
) -> None:
    lines = machine.driver().limitations()
    machine.driver().start()
    actual = facts(machine)
    if actual["nic2"] == "none":
        assert len(lines) == 1 and "no host-only network" in lines[0]
    else:  # a VirtualBox with its network driver
        assert (actual["nic2"], lines) == ("hostonly", [])


if not DEVICE.exists():  # otherwise there would be one more network on this host

    def test_a_network_that_cannot_be_created_is_reported_with_the_reason(own_virtualbox: Path, tmp_path: Path) -> None:
        device = tmp_path / "vboxnetctl"
        device.touch()  # VirtualBox itself does not find one
        card = second_card(VirtualBox(SearchPaths().vboxapi()), device=device)
        assert card.reason.startswith("VirtualBox: ") and "\n" not in card.reason
        assert card.steps() == no_network_card(1)
