"""docker-machine machines of a real VirtualBox are imported by a copy: the originals stay unchanged."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.host.polling import wait_until
from tests.support import raw_disks
from tests.support.cli import B2D, Prompt
from tests.support.kernel_images import an_iso
from tests.support.virtualbox_case import PROGRAMS, save_by_hand, vboxmanage

pytestmark = pytest.mark.virtualbox

NAME = "default"


def a_disk(path: Path, used_mib: int = 1) -> Path:
    """Create a disk as docker-machine did, already in use, since there is no mkfs here."""
    raw = raw_disks.create_unformatted(path.with_name(f"{path.name}.raw"), 64 + used_mib)
    raw_disks.write_at(raw, 10 << 20, os.urandom(used_mib << 20))
    vboxmanage("convertfromraw", str(raw), str(path), "--format", "VMDK")
    raw.unlink()
    return path


@pytest.fixture
def prompt(own_virtualbox: Path, tmp_path: Path) -> Prompt:
    """Return the prompt of a user with an ISO and the installed VirtualBox."""
    iso = tmp_path / "new.iso"
    iso.write_bytes(an_iso("b2d-v26.1.5"))
    home = tmp_path / "me"
    home.mkdir()
    own = {name: os.environ[name] for name in ("VBOX_USER_HOME", "VBOX_IPC_SOCKETID")}
    return Prompt(home, own | {"B2D_IMAGE": str(iso), "B2D_MEMORY": "640", "PATH": f"{PROGRAMS}:{os.environ['PATH']}"})


@pytest.fixture
def disk(prompt: Prompt) -> Iterator[Path]:
    """Yield the disk of a docker-machine machine."""
    folder = prompt.folder / ".docker" / "machine" / "machines" / NAME
    folder.mkdir(parents=True)
    (folder / "boot2docker.iso").write_bytes(an_iso("b2d-v19.03.12"))
    vmdk = a_disk(folder / "disk.vmdk")
    vboxmanage("createvm", "--basefolder", str(folder), "--name", NAME, "--register")
    vboxmanage("modifyvm", NAME, "--memory", "1024", "--cpus", "2", "--ostype", "Linux26_64", "--firmware", "bios")
    # every setting that a restarted service would add to the file by itself
    vboxmanage("modifyvm", NAME, "--nic1", "nat", "--nictype1", "82540EM", "--nat-localhostreachable1", "on")
    vboxmanage("storagectl", NAME, "--name", "SATA", "--add", "sata", "--hostiocache", "on")
    attach = ("storageattach", NAME, "--storagectl", "SATA", "--device", "0")
    vboxmanage(*attach, "--port", "0", "--type", "dvddrive", "--medium", str(folder / "boot2docker.iso"))
    vboxmanage(*attach, "--port", "1", "--type", "hdd", "--medium", str(vmdk))
    yield vmdk
    subprocess.run(
        ["VBoxManage", "controlvm", NAME, "poweroff"], env=prompt.full_environment(), capture_output=True, check=False
    )
    time.sleep(1)
    vboxmanage("unregistervm", NAME)
    for name in ("box", "other"):
        prompt.b2d("delete", "--yes", "--vm", name)


def everything(disk: Path) -> tuple[object, ...]:
    """Return all that must not change: the original's files, and VirtualBox's records.

    VirtualBox keeps a copy of a settings file beside it at each write, even of the same content.
    """
    files = [path for path in disk.parent.rglob("*") if path.is_file() and path.suffix in (".vbox", ".vmdk", ".iso")]
    hashes = {str(path): raw_disks.sha256_of(path) for path in files}
    lines = vboxmanage("showvminfo", NAME, "--machinereadable").splitlines()
    facts = [line for line in lines if not line.startswith("VMStateChangeTime")]  # changes when the service restarts
    return hashes, vboxmanage("list", "vms"), vboxmanage("list", "hdds"), facts


def same_content(first: Path, other: Path) -> bool:
    raws = [path.with_name(f"{path.name}.compared") for path in (first, other)]
    for path, raw in zip((first, other), raws, strict=True):
        vboxmanage("clonemedium", "disk", str(path), str(raw), "--format", "RAW")
        vboxmanage("closemedium", "disk", str(raw))
    return raws[0].read_bytes() == raws[1].read_bytes()


def test_a_candidate_is_listed_with_its_state(prompt: Prompt, disk: Path) -> None:
    assert prompt.b2d("import").out.splitlines()[1].split() == [NAME, "stopped", "1024", "MiB", str(disk)]


@pytest.mark.parametrize("given", [NAME, "{disk}"])
def test_under_virtualbox_its_disk_is_cloned_and_the_original_is_unchanged(
    prompt: Prompt, disk: Path, given: str
) -> None:
    before = everything(disk)
    result = prompt.b2d("import", given.format(disk=disk), "--vm", "box", "--driver", "virtualbox")
    assert (result.code, result.out) == (0, ""), result.err
    assert prompt.b2d("status", "--vm", "box").out == "stopped\n"
    assert everything(disk)[0] == before[0]
    assert all(b"disk.vdi" not in path.read_bytes() for path in disk.parent.rglob("*.vbox-prev"))
    settings = vboxmanage("showvminfo", str(prompt.home.machine("box").virtualbox_settings), "--machinereadable")
    assert "\nmemory=1024\n" in settings and "\ncpus=2\n" in settings
    assert same_content(disk, prompt.home.machine("box").disk_vdi)
    assert prompt.b2d("import", NAME, "--vm", "box").err == "box exists already\n"
    assert prompt.b2d("delete", "--yes", "--vm", "box").code == 0
    for path in disk.parent.glob("*.compared"):
        path.unlink()
    assert everything(disk) == before


def test_a_machine_with_a_snapshot_is_merged(prompt: Prompt, disk: Path) -> None:
    vboxmanage("snapshot", NAME, "take", "before")
    before = everything(disk)
    result = prompt.b2d("import", NAME, "--vm", "box", "--driver", "virtualbox")
    assert (result.code, result.out) == (0, ""), result.err
    assert same_content(disk, prompt.home.machine("box").disk_vdi)
    for path in disk.parent.glob("*.compared"):
        path.unlink()
    result = prompt.b2d("delete", "--yes", "--vm", "box")
    assert everything(disk) == before
    vboxmanage("snapshot", NAME, "delete", "before")


def test_a_machine_with_a_snapshot_is_merged_for_qemu(prompt: Prompt, disk: Path, tmp_path: Path) -> None:
    qemu = tmp_path / "bin" / "qemu-system-x86_64"  # a machine that is never started needs no more
    qemu.parent.mkdir()
    qemu.symlink_to("/bin/true")
    vboxmanage("snapshot", NAME, "take", "before")
    before = everything(disk)
    path = f"{qemu.parent}:{prompt.full_environment()['PATH']}"
    result = prompt.b2d("import", NAME, "--vm", "box", "--driver", "qemu", PATH=path)
    assert (result.code, result.out) == (0, ""), result.err
    copy = prompt.home.machine("box").disk_qcow2
    assert subprocess.run(["qemu-img", "compare", "-q", str(disk), str(copy)], check=False).returncode == 0
    left = {path.name for path in copy.parent.iterdir() if path.name.startswith(".")}
    assert left == set()
    assert everything(disk) == before
    vboxmanage("snapshot", NAME, "delete", "before")


def test_a_running_or_saved_machine_is_refused_with_a_hint(prompt: Prompt, disk: Path) -> None:
    vboxmanage("startvm", NAME, "--type", "headless")
    running = prompt.b2d("import", NAME, "--vm", "box", "--driver", "virtualbox")
    assert (running.code, running.out) == (4, "")
    assert running.err.startswith(f"b2d: {NAME} is running, but must be off to be imported\n")
    by_file = prompt.b2d("import", str(disk), "--vm", "box", "--driver", "virtualbox")
    assert by_file.err == running.err
    save_by_hand(NAME)
    saved = prompt.b2d("import", NAME, "--vm", "box", "--driver", "virtualbox")
    assert saved.code == 4
    assert saved.err.startswith(f"b2d: {NAME} is saved, and its memory would be lost\n")
    vboxmanage("discardstate", NAME)
    assert not prompt.home.machine("box").folder.exists()


def test_an_unregistered_disk_is_not_registered_after_the_import(prompt: Prompt, disk: Path, tmp_path: Path) -> None:
    loose = a_disk(tmp_path / "loose.vmdk")
    before = everything(disk), raw_disks.sha256_of(loose)
    result = prompt.b2d("import", str(loose), "--vm", "other", "--driver", "virtualbox")
    assert (result.code, result.out) == (0, ""), result.err
    assert str(loose) not in vboxmanage("list", "hdds")
    assert prompt.b2d("delete", "--yes", "--vm", "other").code == 0
    assert (everything(disk), raw_disks.sha256_of(loose)) == before


def test_a_cancelled_import_leaves_nothing(prompt: Prompt, disk: Path, tmp_path: Path) -> None:
    large = a_disk(tmp_path / "large.vmdk", used_mib=400)
    before = everything(disk), raw_disks.sha256_of(large)
    command = [B2D, "import", str(large), "--vm", "other", "--driver", "virtualbox"]
    child = subprocess.Popen(command, env=prompt.full_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    folder = prompt.home.machine("other").folder
    wait_until((folder / ".disk.vdi.unfinished").exists, condition="the copy", timeout_s=60, interval_s=0.005)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert not folder.exists()
    assert (everything(disk), raw_disks.sha256_of(large)) == before
