"""An imported disk references no other file: nothing of the referenced file is copied, and no program opens it."""

import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from b2d.drivers.qemu.disk_import import ImageCopy, check_disk
from b2d.drivers.virtualbox.disk_import import MediumCopy
from b2d.errors import B2dError
from tests.security import evil_disks
from tests.security.evil_disks import SECRET, image, secret
from tests.support import raw_disks
from tests.support.cli import Prompt, Result
from tests.support.foreign_machines import create_boot2docker_machine, create_docker_machine, owner_prompt, settings

LOUD = """#!/bin/sh
echo "$@" >>{log}
exec {real} "$@"
"""


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a user whose qemu-img logs its calls."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-img").write_text(LOUD.format(log=tmp_path / "calls", real=shutil.which("qemu-img")))
    (programs / "qemu-img").chmod(0o755)
    owner = owner_prompt(tmp_path)
    owner.environment["PATH"] = f"{programs}:{owner.full_environment()['PATH']}"
    return owner


def assert_refused(prompt: Prompt, result: Result) -> None:
    """Assert one error message and exit code 1, and that nothing was opened, copied or left behind."""
    assert (result.code, result.out) == (1, ""), result.err
    assert result.err.splitlines()[-1].startswith(("b2d: ", "     try: "))
    assert "bug" not in result.err and SECRET.decode() not in result.err
    assert not (prompt.folder.parent / "calls").exists()
    assert not prompt.home.machine("box").folder.exists()
    for path in prompt.home.root.rglob("*"):
        assert not stat.S_ISREG(path.lstat().st_mode) or SECRET not in path.read_bytes(), path


@pytest.mark.parametrize("create", evil_disks.ALL, ids=lambda create: create.__name__)
def test_a_disk_that_refers_to_other_files_is_refused_before_another_program_opens_it(
    tmp_path: Path, create: Callable[[Path], Path]
) -> None:
    with pytest.raises(B2dError) as caught:
        check_disk(create(tmp_path))
    assert caught.value.exit_code == 1
    assert SECRET.decode() not in f"{caught.value.message}{caught.value.hint}{caught.value.details}"


@pytest.mark.parametrize(
    "create",
    [
        evil_disks.vmdk_of_text,
        evil_disks.vmdk_of_capacity_0,
        evil_disks.vmdk_with_a_parent_in_a_comment,
        evil_disks.qcow2_with_an_external_data_file,
        evil_disks.old_qcow2_with_a_backing_file,
    ],
    ids=lambda create: create.__name__,
)
def test_import_refuses_a_malicious_disk_in_one_sentence_and_copies_nothing(
    prompt: Prompt, tmp_path: Path, create: Callable[[Path], Path]
) -> None:
    assert_refused(prompt, prompt.b2d("import", str(create(tmp_path)), "--vm", "box"))


def test_init_refuses_the_same_disks(prompt: Prompt, tmp_path: Path) -> None:
    disk = evil_disks.vmdk_of_text(tmp_path)
    assert_refused(prompt, prompt.b2d("init", "--vm", "box", "--basevmdk", str(disk)))


def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo.raw")
    return folder / "fifo.raw"


@pytest.mark.parametrize("create", [a_fifo, lambda _: Path("/dev/zero")], ids=["fifo", "device"])
def test_a_special_file_is_not_opened_and_does_not_block(
    prompt: Prompt, tmp_path: Path, create: Callable[[Path], Path]
) -> None:
    result = prompt.b2d("import", str(create(tmp_path)), "--vm", "box")
    assert_refused(prompt, result)
    assert "not a file" in result.err


def test_a_typed_symlink_is_followed(prompt: Prompt, tmp_path: Path) -> None:
    disk = image(tmp_path, "real.vdi", "vdi")
    (tmp_path / "link.vdi").symlink_to(disk)
    result = prompt.b2d("import", str(tmp_path / "link.vdi"), "--vm", "box")
    assert result.code == 0, result.err
    assert f"box is created from {disk}" in result.err


@pytest.mark.parametrize("create", [create_docker_machine, create_boot2docker_machine])
def test_a_symlink_in_the_folder_of_a_foreign_machine_is_not_followed(
    prompt: Prompt, create: Callable[[Path], Path]
) -> None:
    disk = create(prompt.folder)
    elsewhere = disk.rename(prompt.folder / "elsewhere.vmdk")
    disk.symlink_to(elsewhere)
    name = disk.parent.name
    result = prompt.b2d("import", name, "--vm", "box")
    assert_refused(prompt, result)
    assert "is a symbolic link, which is not followed" in result.err
    assert prompt.b2d("import", str(elsewhere), "--vm", "box").code == 0


def test_a_settings_file_that_names_a_device_or_a_fifo_is_refused(prompt: Prompt, tmp_path: Path) -> None:
    for place in ("/dev/zero", str(a_fifo(tmp_path))):
        (tmp_path / "x.vbox").write_text(settings("x", place, iso=place))
        assert_refused(prompt, prompt.b2d("import", str(tmp_path / "x.vbox"), "--vm", "box"))


def test_a_file_replaced_during_the_copy_is_not_stored(prompt: Prompt, tmp_path: Path) -> None:
    disk = image(tmp_path, "real.vmdk", "vmdk")
    other = raw_disks.write_at(image(tmp_path, "other.vmdk", "vmdk"), -1, b"\0")
    os.utime(other, ns=(disk.stat().st_atime_ns, disk.stat().st_mtime_ns))
    program = tmp_path / "bin" / "qemu-img"
    real = shutil.which("qemu-img")
    program.write_text(f'#!/bin/sh\n[ "$1" != info ] || mv {other} {disk}\nexec {real} "$@"\n')
    result = prompt.b2d("import", str(disk), "--vm", "box")
    assert (result.code, result.out) == (4, ""), result.err
    assert "was changed while it was copied" in result.err
    assert not prompt.home.machine("box").folder.exists()


@pytest.mark.parametrize("key", ["backing-filename", "data-file", "filename"])
def test_references_found_by_qemu_img_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    disk = image(tmp_path, "real.qcow2", "qcow2")
    program = tmp_path / "bin" / "qemu-img"
    program.parent.mkdir()
    inner = f'{{"{key}": "/etc/shadow"}}'
    facts = f'{{"virtual-size": 1, "format": "qcow2", "filename": "{disk}", "format-specific": {{"data": [{inner}]}}}}'
    program.write_text(f"#!/bin/sh\necho '{facts}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    with pytest.raises(B2dError, match="depends on other files"):
        _ = ImageCopy(disk, "qcow2").size


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("a.qcow2", "qcow2", ()),
        ("a.qcow2", "qcow2", ("compat=0.10",)),
        ("a.qcow2", "qcow2", ("extended_l2=on", "compression_type=zstd")),
        ("a.vmdk", "vmdk", ()),
        ("a.vmdk", "vmdk", ("subformat=streamOptimized",)),
        ("a.vdi", "vdi", ()),
        ("a.vdi", "vdi", ("static=on",)),
        ("a.vhd", "vpc", ()),
        ("a.vhd", "vpc", ("subformat=fixed",)),
        ("a.vhdx", "vhdx", ()),
        ("a.vhdx", "vhdx", ("subformat=fixed",)),
        ("a.raw", "raw", ()),
    ],
)
def test_a_standalone_disk_is_imported(
    prompt: Prompt, tmp_path: Path, name: str, kind: str, options: tuple[str]
) -> None:
    disk = image(tmp_path, name, kind, *options)
    result = prompt.b2d("import", str(disk), "--vm", "box")
    assert result.code == 0, result.err
    calls = (tmp_path / "calls").read_text().splitlines()
    read = [call for call in calls if "/proc/self/fd/" in call or str(disk) in call]
    assert read and all(f" -f {kind} " in call for call in read)


class UnusedVirtualBox:
    """A VirtualBox that must not be asked to open anything."""

    root = None


@pytest.mark.parametrize(
    "create", [evil_disks.vmdk_of_text, evil_disks.vhd_differencing], ids=lambda create: create.__name__
)
@pytest.mark.parametrize("place", [0, 1])
def test_every_layer_is_checked_before_virtualbox_opens_one(
    tmp_path: Path, create: Callable[[Path], Path], place: int
) -> None:
    layer = image(tmp_path, "child.vdi", "vdi")
    raw_disks.write_at(raw_disks.write_at(layer, 0x4C, b"\4\0\0\0"), *evil_disks.PARENT)
    evil = create(tmp_path)
    chain = [evil] if place == 0 else [layer, evil]
    with pytest.raises(B2dError) as caught:
        MediumCopy(UnusedVirtualBox(), chain)  # type: ignore[arg-type]
    assert caught.value.message.startswith(str(evil))


class FakeVirtualBox:
    """A VirtualBox with a disk that is based on `parents`."""

    def __init__(self, *files: Path) -> None:
        raw = None
        for path in reversed(files):
            raw = SimpleNamespace(location=str(path), parent=raw)
        medium = SimpleNamespace(_i=raw, logical_size=1 << 20, machine_ids=[1], location=str(files[0]))
        medium.refresh_state = lambda: None
        self.root = SimpleNamespace(hard_disks=[], open_medium=lambda *_: medium)
        kind = SimpleNamespace(hard_disk=1, read_only=1)
        self.pyvbox = SimpleNamespace(library=SimpleNamespace(DeviceType=kind, AccessMode=kind))


def test_a_parent_known_only_to_virtualbox_is_refused(tmp_path: Path) -> None:
    layer, base, other = (image(tmp_path, f"{name}.vdi", "vdi") for name in ("child", "base", "other"))
    raw_disks.write_at(raw_disks.write_at(layer, 0x4C, b"\4\0\0\0"), *evil_disks.PARENT)
    assert MediumCopy(FakeVirtualBox(layer, base), [layer, base]).size == 1 << 20  # type: ignore[arg-type]
    for files in ((layer, other), (layer, base, other), (layer, tmp_path / "gone")):
        with pytest.raises(B2dError, match="not in the machine's settings"):
            MediumCopy(FakeVirtualBox(*files), [layer, base])  # type: ignore[arg-type]


def test_a_disk_with_a_name_that_is_not_utf_8_is_imported(prompt: Prompt, tmp_path: Path) -> None:
    disk = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xa9.vmdk"))
    image(tmp_path, disk.name, "vmdk")
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.vbox").write_text(settings("x", "sub/../plain.vmdk"))
    image(tmp_path, "plain.vmdk", "vmdk")
    for word, name in ((disk, "box"), (tmp_path / "x.vbox", "other")):
        result = prompt.b2d("import", str(word), "--vm", name)
        assert result.code == 0, result.err


def test_the_space_for_a_copy_is_its_final_size_and_not_the_size_of_the_file(tmp_path: Path) -> None:
    """All clusters share one cluster of the file, which has some megabytes."""
    raw = raw_disks.create_unformatted(tmp_path / "raw", 512)
    with raw.open("r+b") as file:
        for number in range(1, 8192):
            file.seek(number << 16)
            file.write(b"x")
    disk = tmp_path / "bomb.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)], check=True)
    raw.unlink()
    content = bytearray(disk.read_bytes())
    (first,) = struct.unpack_from(">Q", content, 40)
    (second,) = struct.unpack_from(">Q", content, first)
    table, entry = second & evil_disks.OFFSET, content[(second & evil_disks.OFFSET) + 8 :][:8]
    content[table + 8 : table + 65536] = bytes(entry) * 8191
    end = (struct.unpack(">Q", entry)[0] & evil_disks.OFFSET) + (2 << 16)
    disk.write_bytes(bytes(content[:end]))
    assert disk.stat().st_size < 2 << 20
    for kind in ("qcow2", "vdi"):
        assert ImageCopy(disk, kind).room() > 500 << 20


def test_a_layer_that_is_a_symlink_is_not_followed(tmp_path: Path) -> None:
    layer = raw_disks.write_at(image(tmp_path, "child.vdi", "vdi"), 0x4C, b"\4\0\0\0")
    (tmp_path / "base.vdi").symlink_to(secret(tmp_path))
    with pytest.raises(B2dError, match="is a symbolic link"):
        MediumCopy(UnusedVirtualBox(), [layer, tmp_path / "base.vdi"])  # type: ignore[arg-type]
