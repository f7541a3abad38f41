"""The guest and its data disk: formatting, adoption, and disks that must stay untouched."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from b2d.guest import readiness, seed
from b2d.models import Extent, Image
from tests.e2e.conftest import Person
from tests.support import guest_without_docker, raw_disks, tiny_guest
from tests.support.raw_disks import MIB, SECTOR, DiskContent

pytestmark = pytest.mark.qemu

REPORT = """
cat /proc/mounts /proc/swaps
df -k
readlink /var/lib/docker
readlink /var/lib/boot2docker
cat /home/docker/.ssh/authorized_keys
ls /home/docker
cat /var/lib/boot2docker/note
dmesg | grep -i 'ext4.*recovery'
"""
DISK_MIB = 1000
DATA_START = (2048 + DISK_MIB * MIB // SECTOR // 10 // 2048 * 2048) * SECTOR  # KiB of partition 1 on such a disk
SMALL_MIB = 64
SMALL_DATA_START = (2048 + SMALL_MIB * MIB // SECTOR // 10 // 2048 * 2048) * SECTOR
MAGIC = seed.MAGIC.encode()
PAYLOAD = seed.payload(raw_disks.KEY)
IN_RAM = "all data is in RAM and is lost at shutdown"
NOT_CHANGED = "requests to be formatted, but contains data: it is not changed"

Boot = Callable[..., guest_without_docker.Guest]


@pytest.fixture(scope="module")
def reporting(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return guest_without_docker.image(image, tmp_path_factory.mktemp("image"), REPORT)


@pytest.fixture
def guest(reporting: Image, tmp_path: Path) -> Boot:
    def make(*disks: Path) -> guest_without_docker.Guest:
        return guest_without_docker.Guest(reporting, tmp_path, tiny_guest.spec(), list(disks))

    return make


def test_a_blank_disk_is_formatted_despite_interrupted_boots(guest: Boot, tmp_path: Path) -> None:
    disk = raw_disks.create_unformatted(tmp_path / "disk", DISK_MIB)
    machine, content = guest(disk), DiskContent(disk)
    machine.cut_off(content.has_table)
    machine.cut_off(content.has_file_system)
    machine.cut_off(lambda: content.label() == raw_disks.LABEL)
    machine.cut_off(lambda: not content.has_magic())
    report = machine.report()
    assert "warn" not in machine.console()
    assert "/dev/vda1 /mnt/vda1 ext4 rw" in report
    assert "/dev/vda2" in report.split("Filename")[1]  # swap
    assert "/mnt/vda1/var/lib/docker\n/mnt/vda1/var/lib/boot2docker\n" in report
    assert raw_disks.KEY.strip() in report
    assert "format-me" not in report
    assert not content.has_magic()
    assert content.label() == raw_disks.LABEL
    assert content.is_clean()


def test_a_guest_without_its_root_file_system_reports_a_failure(image: Image, tmp_path: Path) -> None:
    empty = tmp_path / "root"
    empty.write_bytes(bytes(MIB))
    guest = guest_without_docker.Guest(
        image._replace(stored=empty, root=Extent(0, MIB)), tmp_path, tiny_guest.spec(), []
    )
    guest.cut_off(lambda: bool(readiness.find_problems(guest.console())))
    failure = readiness.BootProblem("no disk or CD contains b2d's root file system", fatal=True)
    assert readiness.find_problems(guest.console()) == [failure]


def test_a_formatted_disk_that_still_asks_for_formatting_keeps_its_files(guest: Boot, tmp_path: Path) -> None:
    disk = raw_disks.create_boot2docker_disk(tmp_path / "disk", 200, a_tree(tmp_path, "kept"))
    table = disk.read_bytes()[446:512]
    raw_disks.write_at(disk, 0, PAYLOAD[:446] + table + PAYLOAD[512:])
    report = guest(disk).report()
    assert "kept\n" in report


def test_an_incomplete_file_system_is_formatted_again(guest: Boot, tmp_path: Path) -> None:
    disk = raw_disks.create_unformatted(tmp_path / "disk", DISK_MIB)
    machine = guest(disk)
    machine.cut_off(DiskContent(disk).has_file_system)
    torn = DATA_START + 4096
    raw_disks.write_at(disk, torn, b"\xff" * 65536)  # the power was cut before the group descriptors were written
    assert not DiskContent(disk).label()
    assert "/dev/vda1 /mnt/vda1 ext4 rw" in machine.report()
    assert DiskContent(disk).is_clean()


def others(folder: Path) -> dict[str, Path]:
    """Create disks that must not be formatted, by content; the first ones start with the magic all the same."""
    folder.mkdir()
    gpt = b"EFI PART" + bytes(8)

    def payload(name: str) -> Path:
        return raw_disks.create_blank(folder / name, SMALL_MIB, PAYLOAD)

    def magic(name: str) -> Path:
        return raw_disks.create_blank(folder / name, SMALL_MIB, MAGIC)

    asking = [
        raw_disks.write_at(raw_disks.create_ext4(folder / "ext4", SMALL_MIB, "mine"), 0, MAGIC),
        raw_disks.write_at(payload("table"), 446, b"\x80\0\0\0\x83\0\0\0\0\x08\0\0\0\0\x01\0"),
        raw_disks.write_at(magic("gpt"), 512, gpt),
        raw_disks.write_at(payload("second-gpt"), -512, gpt),
        raw_disks.write_at(magic("lvm"), 512, b"LABELONE"),
        raw_disks.write_at(payload("luks"), 16384, b"SKUL\xba\xbe"),
        raw_disks.write_at(payload("line-feed"), 4096, b"\n"),
        raw_disks.write_at(payload("data"), MIB, b"\n"),
        raw_disks.write_at(payload("deep"), SMALL_DATA_START, b"data"),
    ]
    silent = [
        raw_disks.create_blank(folder / "zeros", SMALL_MIB),
        raw_disks.create_blank(folder / "text", SMALL_MIB, b"boot2docker, please do not format me"),
        raw_disks.create_ext4(folder / "labelled", SMALL_MIB, "boot2docker-dat"),
    ]
    assert len(asking) == ASKING
    return {path.name: path for path in asking + silent}


ASKING = 9


def test_a_disk_with_foreign_content_is_never_written_to(guest: Boot, tmp_path: Path) -> None:
    disks = others(tmp_path / "others")
    before = {name: raw_disks.sha256_of(path) for name, path in disks.items()}
    machine = guest(*disks.values())
    report = machine.report()
    assert {name for name, path in disks.items() if raw_disks.sha256_of(path) != before[name]} == set()
    assert machine.console().count(NOT_CHANGED) == ASKING
    assert IN_RAM in machine.console()
    assert "docker /var/lib/docker tmpfs" in report


def data_kib(report: str) -> int:
    """Return the size of the guest's file system in KiB."""
    return int(next(line for line in report.splitlines() if line.endswith(" /mnt/vda1")).split()[1])


@pytest.mark.parametrize("cut", [False, True])
def test_an_enlarged_disk_is_used_completely_and_keeps_its_files(guest: Boot, tmp_path: Path, cut: bool) -> None:
    disk = raw_disks.create_boot2docker_disk(tmp_path / "disk", 200, a_tree(tmp_path, "kept"))
    machine, content = guest(disk), DiskContent(disk)
    assert 150 << 10 < data_kib(machine.report()) < 200 << 10
    with disk.open("r+b") as file:
        file.truncate(600 * MIB)
    if cut:
        before = content.table()
        machine.cut_off(lambda: content.table() != before)
    report = machine.report()
    assert "kept\n" in report
    assert 520 << 10 < data_kib(report) < 600 << 10
    assert "warn" not in machine.console()
    assert content.is_clean()


def test_a_small_free_space_at_the_end_of_a_disk_is_not_used(guest: Boot, tmp_path: Path) -> None:
    disk = raw_disks.create_boot2docker_disk(tmp_path / "disk", 200, a_tree(tmp_path, "kept"))
    with disk.open("r+b") as file:
        file.truncate(230 * MIB)
    before = DiskContent(disk).table()
    assert data_kib(guest(disk).report()) < 200 << 10
    assert DiskContent(disk).table() == before


def test_without_a_disk_docker_stores_data_in_ram(guest: Boot) -> None:
    machine = guest()
    report = machine.report()
    assert "docker /var/lib/docker tmpfs" in report
    assert f"b2d: warn there is no data disk: {IN_RAM}" in machine.console()


def test_a_disk_of_2014_is_used_after_a_power_loss(guest: Boot, tmp_path: Path) -> None:
    disk = raw_disks.create_boot2docker_disk(tmp_path / "disk", 200, a_tree(tmp_path, "of 2014"))
    machine = guest(raw_disks.create_blank(tmp_path / "empty", 10), disk)  # it need not be the first disk
    machine.cut_off(lambda: " disk\n" in machine.console())
    assert not DiskContent(disk).is_clean()
    report = machine.report()
    assert "/dev/vdd1 /mnt/vdd1 ext4 rw" in report
    assert "recovery complete" in report
    assert "/dev/vdd2" in report.split("Filename")[1]
    assert "of 2014\n" in report
    assert raw_disks.KEY.strip() in report
    assert DiskContent(disk).is_clean()


def test_a_disk_of_2018_is_used(guest: Boot, tmp_path: Path) -> None:
    report = guest(raw_disks.create_gpt_disk(tmp_path / "disk", 200, a_tree(tmp_path, "kept since 18.09"))).report()
    assert "/dev/vda1 /mnt/vda1 ext4 rw" in report
    assert raw_disks.KEY.strip() in report
    assert "kept since 18.09\n" in report


def a_tree(folder: Path, note: str) -> Path:
    """Create the files that boot2docker leaves in its file system."""
    tree = folder / "tree"
    store = tree / "var/lib/boot2docker"
    store.mkdir(parents=True)
    (tree / "var/lib/docker/aufs/diff").mkdir(parents=True)
    (store / "userdata.tar").write_bytes(PAYLOAD)
    (store / "note").write_text(f"{note}\n")
    return tree


# the waiting process is a shell, with its script's name
ENGINE_REPORT = """
runs() { ls -l /proc/*/exe 2>/dev/null | sed -n 's|.*/bin/||p' | grep -e ^containerd -e ^dockerd; }
/etc/b2d/containerd & /etc/b2d/dockerd &
sleep 2
echo first: $(runs || echo nothing)
find /var/lib/docker/
mv /var/lib/docker/aufs /var/lib/docker/put-away
tries=20
until runs || [ $tries = 0 ]; do tries=$((tries - 1)); sleep 1; done
echo then: $(runs)
"""
LAYER = "var/lib/docker/aufs/diff/0123"
NO_AUFS = "contains AUFS layers, which Docker since 18.09 cannot read"


@pytest.mark.parametrize("folder", ["/var/lib/docker", "/mnt/vda1/elsewhere"])
def test_docker_does_not_start_before_aufs_data_is_removed(image: Image, tmp_path: Path, folder: str) -> None:
    tree = a_tree(tmp_path, "of 2014")
    (tree / LAYER).mkdir()
    (tree / "var/lib/docker/containers").mkdir()
    if folder != "/var/lib/docker":
        (tree / "var/lib/docker").rename(tree / "elsewhere")
        (tree / "var/lib/boot2docker/profile").write_text(f"DOCKER_DIR={folder}\n")
    disk = raw_disks.create_boot2docker_disk(tmp_path / "disk", 200, tree)
    report = ENGINE_REPORT.replace("/var/lib/docker", folder)
    machine = guest_without_docker.Guest(
        guest_without_docker.image(image, tmp_path, report), tmp_path, tiny_guest.spec(), [disk]
    )
    output = machine.report()
    assert machine.console().count(f"b2d: fail {folder} {NO_AUFS}") == 1
    assert "first: nothing" in output
    names = ("", "aufs", "aufs/diff", "aufs/diff/0123", "containers")
    assert {line for line in output.splitlines() if line.startswith(folder)} == {f"{folder}/{name}" for name in names}
    assert "then: containerd" in output  # it continues by itself once the layers are removed


def test_aufs_data_beside_overlay2_data_does_no_harm(image: Image, tmp_path: Path) -> None:
    tree = a_tree(tmp_path, "of 2014")
    (tree / LAYER).mkdir()
    (tree / "var/lib/docker/overlay2/4567/diff").mkdir(parents=True)
    disk = raw_disks.create_boot2docker_disk(tmp_path / "disk", 200, tree)
    report = ENGINE_REPORT.replace("mv ", ": ")
    machine = guest_without_docker.Guest(
        guest_without_docker.image(image, tmp_path, report), tmp_path, tiny_guest.spec(), [disk]
    )
    assert "then: containerd" in machine.report()
    assert NO_AUFS not in machine.console()


def test_docker_starts_beside_a_foreign_disk(person: Person, tmp_path: Path) -> None:
    person.check_output("init")
    raw = raw_disks.write_at(raw_disks.create_ext4(tmp_path / "raw", SMALL_MIB, "mine"), 0, MAGIC)
    before = raw_disks.sha256_of(raw)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(person.paths.disk_qcow2)], check=True)
    completed = person.b2d("up")
    assert completed.returncode == 0, completed.stderr.decode()
    assert NOT_CHANGED in completed.stderr.decode()
    assert IN_RAM in completed.stderr.decode()
    person.create_hello_image()
    assert person.docker("run", "--rm", "hello", "echo", "hi") == "hi\n"
    assert person.docker("info", "--format", "{{.Driver}}") == "overlay2\n"
    person.check_output("stop")
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(person.paths.disk_qcow2), str(raw)], check=True)
    assert raw_disks.sha256_of(raw) == before


def test_up_reports_aufs_data_and_volumes_are_usable_without_it(person: Person, tmp_path: Path) -> None:
    person.check_output("init")
    tree = a_tree(tmp_path, "of 2014")
    (tree / LAYER).mkdir()
    (tree / "var/lib/docker/volumes/old/_data").mkdir(parents=True)
    raw = raw_disks.create_boot2docker_disk(tmp_path / "raw", 600, tree)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(person.paths.disk_qcow2)], check=True)
    completed = person.b2d("up")
    assert (completed.returncode, NO_AUFS in completed.stderr.decode()) == (1, True)
    person.check_output("ssh", "sudo mv /var/lib/docker/aufs /var/lib/docker/aufs.old")
    person.check_output("restart")
    assert person.docker("volume", "ls", "-q") == "old\n"
    assert person.check_output("ssh", "sudo ls /var/lib/docker/aufs.old/diff") == "0123\n"
