"""Folders of this host in a guest that reads no seed disk: real scripts, with a sudo that records its calls."""

import subprocess
from pathlib import Path

import pytest

from b2d.errors import B2dError, InvalidStateError
from b2d.machine.foreign_folders import ForeignFolders
from b2d.models import CommandResult
from tests.support.fakes import FakeDriver, FakeGuest, a_spec

SUDO = """#!/bin/sh
case $1 in
modprobe | mkdir) ;;
grep | readlink) exec "$@" ;;
*) echo "$@" >>"$CALLS"; case "$*" in *refused*) exit 32 ;; esac ;;
esac
"""
READ_ONLY, PLAIN = "/data, of mine:ro", "/work"


class Qemu(FakeDriver):
    """A driver whose guest must unmount its folders before a save."""

    def unmount_folders(self) -> None:
        self.calls.append("unmount")

    def mount_folders(self) -> list[str]:
        raise AssertionError("its guest has no control port")


class Shell(FakeGuest):
    """A guest whose commands run here, with a sudo that only records what it should do."""

    def __init__(self, folder: Path, kinds: str, mounted: str) -> None:
        super().__init__()
        self.folder = folder
        (folder / "filesystems").write_text(kinds)
        (folder / "mounts").write_text(mounted)
        (folder / "calls").touch()
        self.add_process(1, "mnt:[1]", "")
        (folder / "sudo").write_text(SUDO)
        (folder / "sudo").chmod(0o755)

    def add_process(self, pid: int, namespace: str, mounts: str) -> None:
        process = self.folder / str(pid)
        (process / "ns").mkdir(parents=True)
        (process / "ns" / "mnt").symlink_to(namespace)
        (process / "mountinfo").write_text(mounts)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def run(self, command: str, timeout_s: float, limit: int = 1 << 20) -> CommandResult:
        script = command.replace("/proc/", f"{self.folder}/")
        environment = {"PATH": f"{self.folder}:/usr/bin:/bin", "CALLS": str(self.folder / "calls")}
        done = subprocess.run(["sh", "-c", script], capture_output=True, env=environment, check=False)
        return CommandResult(done.returncode, done.stdout, done.stderr)


def folders(guest: Shell, *shared: str, driver: FakeDriver | None = None) -> ForeignFolders:
    spec = a_spec("box", folders=shared)
    return ForeignFolders(spec, driver or Qemu(spec), lambda: guest)


def test_each_folder_is_mounted_at_its_path(tmp_path: Path) -> None:
    guest = Shell(tmp_path, "nodev 9p", "")
    assert folders(guest, READ_ONLY, PLAIN).mount_folders() == []
    options = "trans=virtio,version=9p2000.L,msize=262144,cache=none"
    assert guest.calls == [
        f"mount -t 9p -o ro,{options} b2d-0 /data, of mine",
        f"mount -t 9p -o rw,{options} b2d-1 /work",
    ]


def test_a_kernel_with_guest_additions_mounts_vboxsf_for_the_user(tmp_path: Path) -> None:
    guest = Shell(tmp_path, "nodev vboxsf", "")
    assert folders(guest, PLAIN).mount_folders() == []
    assert guest.calls[0].startswith("mount -t vboxsf -o rw,uid=")


def test_mounted_folders_are_left_alone_and_refused_ones_are_returned(tmp_path: Path) -> None:
    guest = Shell(tmp_path, "9p", "b2d-0 /work 9p rw 0 0\n")
    assert folders(guest, PLAIN, "/refused").mount_folders() == ["/refused"]
    assert len(guest.calls) == 1


def test_a_kernel_without_support_is_reported(tmp_path: Path) -> None:
    with pytest.raises(B2dError, match="neither 9p nor vboxsf"):
        folders(Shell(tmp_path, "ext4", ""), PLAIN).mount_folders()


def test_folders_are_unmounted_before_a_save(tmp_path: Path) -> None:
    guest = Shell(tmp_path, "9p", "b2d-0 /work 9p rw 0 0\n")
    sharing = folders(guest, PLAIN)
    sharing.unmount_folders()
    assert guest.calls == ["umount /work"]
    assert isinstance(sharing.driver, Qemu)
    assert sharing.driver.calls == ["unmount"]


def test_a_folder_in_use_prevents_a_save(tmp_path: Path) -> None:
    guest = Shell(tmp_path, "9p", "b2d-0 /refused 9p rw 0 0\n")
    sharing = folders(guest, "/refused")
    with pytest.raises(InvalidStateError, match="while programs in it use folders of this host: /refused"):
        sharing.unmount_folders()


def test_a_folder_in_a_container_prevents_a_save_and_stays_mounted(tmp_path: Path) -> None:
    guest = Shell(tmp_path, "9p", "b2d-0 /work 9p rw 0 0\n")
    guest.add_process(76, "mnt:[1]", "9 8 0:7 / /work rw - 9p b2d-0 rw,trans=virtio\n")
    guest.add_process(77, "mnt:[2]", "9 8 0:7 / /here rw - 9p b2d-0 rw,trans=virtio\n")
    with pytest.raises(InvalidStateError, match="/work"):
        folders(guest, PLAIN).unmount_folders()
    assert guest.calls == []
    (tmp_path / "77" / "mountinfo").write_text("9 8 0:7 / /here rw - 9p b2d-01 rw,trans=virtio\n")
    folders(guest, PLAIN).unmount_folders()
    assert guest.calls == ["umount /work"]


def test_virtualbox_saves_with_mounted_folders(tmp_path: Path) -> None:
    guest = Shell(tmp_path, "vboxsf", "b2d-0 /work vboxsf rw 0 0\n")
    folders(guest, PLAIN, driver=FakeDriver(a_spec())).unmount_folders()
    assert guest.calls == []


def test_a_guest_cannot_name_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Shell(tmp_path, "9p", "")
    answer = b"lacking 7\nlacking /etc\nlacking 0; rm\n\x1b[2J\n"
    monkeypatch.setattr(guest, "run", lambda *_: CommandResult(0, answer, b""))
    assert folders(guest, PLAIN).mount_folders() == []
