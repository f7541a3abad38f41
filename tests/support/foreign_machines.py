"""Machines of boot2docker and docker-machine on a user's disk, made without VirtualBox."""

import json
import subprocess
from pathlib import Path

from tests.support import raw_disks
from tests.support.cli import Prompt
from tests.support.kernel_images import an_iso

DISK_UUID, CHILD_UUID, ISO_UUID = (f"{{00000000-0000-0000-0000-00000000000{number}}}" for number in (1, 2, 3))
NOTE = "kept since 2014"


def owner_prompt(folder: Path) -> Prompt:
    """Return the prompt of a user without VirtualBox, with an ISO and with settings that differ from old machines."""
    iso, home = folder / "new.iso", folder / "me"
    iso.write_bytes(an_iso("b2d-v26.1.5"))
    home.mkdir()
    usual = {"B2D_DRIVER": "qemu", "B2D_VBOXAPI": "/nowhere", "B2D_IMAGE": str(iso), "B2D_MEMORY": "640"}
    return Prompt(home, usual)


def a_disk(path: Path, mib: int = 64, note: str = NOTE) -> Path:
    """Create a data disk in the format of its suffix, with a note in /var/lib/boot2docker."""
    tree = path.with_name(f"{path.name}.tree")
    store = tree / "var" / "lib" / "boot2docker"
    store.mkdir(parents=True)
    (store / "note").write_text(note)
    (store / "userdata.tar").write_bytes(raw_disks.create_unformatted(path.with_name("payload"), 1).read_bytes()[:4096])
    raw = raw_disks.create_boot2docker_disk(path.with_name(f"{path.name}.raw"), mib, tree)
    return converted(raw, path)


def converted(raw: Path, path: Path) -> Path:
    subprocess.run(["qemu-img", "convert", "-O", path.suffix[1:], str(raw), str(path)], check=True)
    raw.unlink()
    return path


def settings(
    name: str,
    disk: str,
    iso: str = "boot2docker.iso",
    *,
    seven: bool = False,
    layers: bool = False,
    saved: bool = False,
) -> str:
    """Return VirtualBox's file of a machine with 1 GiB and two CPUs; since 7.0 controllers are in its hardware."""
    child = f'<HardDisk uuid="{CHILD_UUID}" location="Snapshots/{CHILD_UUID}.vmdk" format="VMDK"/>' if layers else ""
    drives = f"""<StorageControllers><StorageController name="SATA" type="AHCI" PortCount="2">
      <AttachedDevice type="DVD" port="0" device="0"><Image uuid="{ISO_UUID}"/></AttachedDevice>
      <AttachedDevice type="HardDisk" port="1" device="0"><Image uuid="{CHILD_UUID if layers else DISK_UUID}"/>
      </AttachedDevice></StorageController></StorageControllers>"""
    return f"""<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.16-linux">
  <Machine uuid="{{00000000-0000-0000-0000-000000000009}}" name="{name}" OSType="Linux26_64"
    {'stateFile="Snapshots/x.sav"' if saved else ""} {f'currentSnapshot="{DISK_UUID}"' if layers else ""}>
    <MediaRegistry>
      <HardDisks><HardDisk uuid="{DISK_UUID}" location="{disk}" format="VMDK">{child}</HardDisk></HardDisks>
      <DVDImages><Image uuid="{ISO_UUID}" location="{iso}"/></DVDImages>
    </MediaRegistry>
    <Hardware><CPU count="2"><PAE enabled="true"/></CPU><Memory RAMSize="1024"/>{drives if seven else ""}</Hardware>
    {"" if seven else drives}
  </Machine>
</VirtualBox>"""


def create_boot2docker_machine(
    home: Path, name: str = "boot2docker-vm", label: str = "b2d-v19.03.12", *, layers: bool = False, saved: bool = False
) -> Path:
    """Create a machine in VirtualBox's default folder and return its disk."""
    folder = home / "VirtualBox VMs" / name
    folder.mkdir(parents=True)
    (folder / "boot2docker.iso").write_bytes(an_iso(label))
    (folder / f"{name}.vbox").write_text(settings(name, f"{name}.vmdk", layers=layers, saved=saved))
    return a_disk(folder / f"{name}.vmdk")


def create_docker_machine(home: Path, name: str = "default", *, with_settings: bool = True, mib: int = 64) -> Path:
    """Create a machine of docker-machine and return its disk."""
    folder = home / ".docker" / "machine" / "machines" / name
    (folder / name).mkdir(parents=True)
    (folder / "boot2docker.iso").write_bytes(an_iso("b2d-v18.09.9"))
    driver = {"MachineName": name, "Memory": 1024, "CPU": 1, "DiskSize": 20000}
    (folder / "config.json").write_text(json.dumps({"ConfigVersion": 3, "Driver": driver, "DriverName": "virtualbox"}))
    if with_settings:
        file = folder / name / f"{name}.vbox"
        file.write_text(settings(name, f"{folder}/disk.vmdk", f"{folder}/boot2docker.iso"))
    return a_disk(folder / "disk.vmdk", mib)
