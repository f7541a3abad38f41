"""Shared folders of a QEMU machine: devices, and the messages with the guest."""

from itertools import pairwise
from pathlib import Path

import pytest

from b2d.drivers.qemu import shared_folders
from b2d.drivers.qemu.launcher import Launcher
from b2d.errors import B2dError, InvalidStateError
from b2d.guest import seed
from b2d.models import MachineSpec
from b2d.paths import MachinePaths
from tests.support import tiny_guest
from tests.support.serial_peer import guest
from tests.unit.drivers.qemu.test_command_line import DIRECT
from tests.unit.drivers.qemu.test_launcher import driver, paths, qemu_arguments, write_saved_state

__all__ = ["paths"]  # the fixture


def shared(paths: MachinePaths) -> Path:
    """Create a folder of this host beside the machine's own, which is never shared."""
    folder = paths.folder.parent / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def sharing(*shared: str) -> MachineSpec:
    return tiny_guest.spec()._replace(folders=shared)


def test_each_folder_is_a_device_with_its_mode(tmp_path: Path) -> None:
    given = shared_folders.build_arguments(sharing("/home/me", "/data, of mine:ro"), MachinePaths(tmp_path))
    first = "local,id=b2d-0,path=/home/me,security_model=none,multidevs=remap"
    second = "local,id=b2d-1,path=/data,, of mine,security_model=none,multidevs=remap,readonly=on"
    assert [word for option, word in pairwise(given) if option == "-fsdev"] == [first, second]
    assert "virtio-9p-pci,fsdev=b2d-1,mount_tag=b2d-1" in given
    assert given[-1] == "chardev:line"


def test_a_machine_without_folders_has_no_devices_for_them(tmp_path: Path) -> None:
    assert shared_folders.build_arguments(sharing(), MachinePaths(tmp_path)) == []


def test_a_missing_or_unreadable_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    (tmp_path / "also-there").mkdir()
    shared = [str(tmp_path / name) for name in ("there", "file", "never", "also-there:ro")]
    assert shared_folders.find_missing(shared, lambda _: "") == [1, 2]
    assert shared_folders.find_missing(shared, lambda path: "no" if path.endswith("there") else "") == [0, 1, 2, 3]


def test_a_machine_starts_with_a_missing_folder_and_the_guest_cannot_mount_its_placeholder(
    paths: MachinePaths,
) -> None:
    spec = tiny_guest.spec()._replace(folders=(str(shared(paths)), "/nowhere/to be found"))
    driver(paths, spec).create(b"payload")
    words = qemu_arguments(paths, spec)
    assert f"local,id=b2d-1,path={paths.nothing},security_model=none,multidevs=remap,readonly=on" in words
    assert "virtio-9p-pci,fsdev=b2d-0,mount_tag=b2d-0" in words
    assert "virtio-9p-pci,fsdev=b2d-1,mount_tag=not-1" in words
    assert len(shared_folders.ABSENT) == len(seed.SHARE)  # QEMU 7.2 fails to load some saved states otherwise
    assert list(paths.nothing.iterdir()) == []


def test_a_saved_machine_resumes_when_a_folder_is_missing(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()._replace(folders=(str(shared(paths) / "mine"),))
    (shared(paths) / "mine").mkdir()
    write_saved_state(paths, spec)
    paths.taken.touch()
    (shared(paths) / "mine").rmdir()
    words = qemu_arguments(paths, spec)
    assert words[-1] == "-S"
    assert paths.qemu_saved.exists()
    assert paths.taken.exists()


def test_a_boot_clears_the_mark_of_unmounted_folders(paths: MachinePaths) -> None:
    spec = tiny_guest.spec()._replace(folders=(str(shared(paths)),))
    driver(paths, spec).create(b"payload")
    paths.taken.touch()
    qemu_arguments(paths, spec)
    assert not paths.taken.exists()


def test_a_saved_state_depends_on_the_folders(tmp_path: Path) -> None:
    def hardware(*shared: str) -> list[str]:
        spec = tiny_guest.spec()._replace(folders=shared, ssh_port=1, docker_port=2)
        return Launcher(spec, MachinePaths(tmp_path), lambda: DIRECT, "tcg").plan().hardware

    assert hardware("/a", "/b") == hardware("/a", "/b")
    assert hardware("/a", "/b") != hardware("/a", "/b:ro")
    assert hardware("/a", "/b") != hardware("/b", "/a")


def test_users_of_a_folder_are_named_with_the_commands_to_stop_them(tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path)
    answer = ("held container web", "held container db", "held program 12 my sleep", "stuck ", "folders let-go")
    with (
        guest(paths.line_socket, [f"{line}\n".encode() for line in answer]) as received,
        pytest.raises(InvalidStateError) as caught,
    ):
        shared_folders.unmount(paths, "box")
    assert received == [b"\nfolders let-go\n"]
    assert caught.value.message.endswith(": the container web, the container db, my sleep (pid 12)")
    kill = "b2d ssh --vm box -- sudo kill 12"
    assert caught.value.hint == f"docker stop web db && {kill} && b2d save --vm box, or b2d stop --vm box"


def test_a_guest_that_does_not_answer_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(B2dError, match="cannot be unmounted: the guest does not answer") as caught:
        shared_folders.unmount(MachinePaths(tmp_path), "box")
    assert caught.value.hint == "b2d stop --vm box"


def test_a_guest_gets_the_existing_folders_and_reports_those_it_cannot_mount(tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path)
    with guest(paths.line_socket, [b"without /c d\nfolders have\n"]) as received:
        assert shared_folders.mount(paths, ["/a", "/b", "/c d"], [1]) == ["/b", "/c d"]
    assert received == [b"\nfolders have b2d-0 b2d-2\n"]


def test_reports_about_unknown_folders_are_ignored(tmp_path: Path) -> None:
    paths = MachinePaths(tmp_path)
    strange = b"".join(b"without /%d\n" % number for number in range(10_000))
    with guest(paths.line_socket, [strange, b"without /a\nwithout /a\nfolders have\n"]):
        assert shared_folders.mount(paths, ["/a", "/b"], []) == ["/a"]


def test_a_qemu_without_9p_is_recognised_by_its_log() -> None:
    assert "B2D_SHARE=none" in shared_folders.hint_for_log("-fsdev local,id=b2d-0: no option group 'fsdev'", "box")
    assert "B2D_SHARE=none" in shared_folders.hint_for_log("'virtio-9p-pci' is not a valid device model name", "box")
    assert shared_folders.hint_for_log("could not open the disk", "box") == ""
