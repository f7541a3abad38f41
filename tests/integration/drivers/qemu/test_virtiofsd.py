"""virtiofsd: its choice, its start, and its end when its connection closes."""

import os
import sys
from pathlib import Path

import pytest

from b2d.drivers.qemu import shared_folders, virtiofsd
from b2d.drivers.qemu.driver import QemuDriver, QemuSettings
from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.errors import HypervisorError, InvalidStateError
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify, is_alive
from b2d.models import HARDWARE, Endpoint, MachineSpec
from b2d.paths import MachinePaths
from tests.support import tiny_guest
from tests.unit.drivers.qemu.test_command_line import DIRECT
from tests.unit.drivers.qemu.test_launcher import driver, paths, qemu_arguments, write_saved_state

__all__ = ["paths"]  # the fixture
ANSWERS = "virtiofsd 1.13.2"
# takes its connection, records its arguments, and ends with the connection
SERVER = f"""#!{sys.executable}
import pathlib, socket, sys
if sys.argv[1] == "--version":
    sys.exit(print("{{version}}"))
connection, _ = socket.socket(fileno=int(sys.argv[2])).accept()
pathlib.Path("{{folder}}", "served").write_text("\\n".join(sys.argv[3:]))
connection.recv(1)
"""


@pytest.fixture
def server(paths: MachinePaths) -> Path:
    """Create a host with recent versions of QEMU and virtiofsd and return the folder of the programs."""
    folder = paths.folder.parent / "bin"
    program(folder / "virtiofsd", ANSWERS)
    qemu = folder / "qemu-system-x86_64"
    answers = '[ "$1" != --version ] || exec echo QEMU emulator version 10.0.13\n'
    qemu.write_text(qemu.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{answers}"))
    return folder


@pytest.fixture(autouse=True)
def nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtiofsd, "SEARCH_PATHS", ())


def program(path: Path, version: str) -> None:
    path.write_text(SERVER.format(version=version, folder=path.parent.parent))
    path.chmod(0o755)


def sharing(paths: MachinePaths, *more: str) -> MachineSpec:
    shared = paths.folder.parent / "shared"  # the machine's own folder is never shared
    shared.mkdir(exist_ok=True)
    return tiny_guest.spec()._replace(folders=(str(shared), *more))


@pytest.mark.parametrize(
    ("version", "will_do"),
    [
        ("virtiofsd 1.13.2", True),
        ("virtiofsd 1.11.0", True),
        ("virtiofsd 1.10.1", False),
        ("virtiofsd version 7.2.22 (Debian 1:7.2)", False),  # QEMU's own virtiofsd, until 8.0
        ("", False),
    ],
)
def test_a_virtiofsd_too_old_for_saving_is_not_used(server: Path, version: str, will_do: bool) -> None:
    program(server / "virtiofsd", version)
    assert virtiofsd.find() == (str(server / "virtiofsd") if will_do else "")


def test_without_virtiofsd_folders_are_shared_by_9p(paths: MachinePaths, server: Path) -> None:
    (server / "virtiofsd").unlink()
    driver(paths, sharing(paths)).create(b"payload")
    assert "-fsdev" in qemu_arguments(paths, sharing(paths))


def test_it_exits_when_its_connection_closes(paths: MachinePaths, server: Path) -> None:
    daemon = virtiofsd.start(str(server / "virtiofsd"), Path("/some where"), paths, read_only=True)
    wrote = paths.folder.parent / "served"
    wait_until(lambda: wrote.exists() and wrote.read_text() != "", condition="it", timeout_s=20)
    words = wrote.read_text().splitlines()
    assert words[:2] == ["--shared-dir", "/some where"]
    assert f"squash-guest:0:{os.getuid()}:4294967295" in words
    assert words[-1] == "--readonly"
    assert not paths.virtiofsd_socket.exists()
    assert paths.virtiofsd_log.stat().st_mode & 0o777 == 0o600
    assert daemon.process is not None
    assert is_alive(daemon.process)
    daemon.connection.close()
    wait_until(lambda: daemon.process is not None and not is_alive(daemon.process), condition="its end", timeout_s=20)


def test_a_machine_has_a_device_per_folder_and_shared_memory(paths: MachinePaths, server: Path) -> None:
    spec = sharing(paths, "/nowhere/to be found")
    driver(paths, spec).create(b"payload")
    words = qemu_arguments(paths, spec)
    assert f"memory-backend-memfd,id=memory,size={spec.memory_mib}M,share=on" in words
    assert "vhost-user-fs-pci,chardev=b2d-0,tag=b2d-0" in words
    assert "vhost-user-fs-pci,chardev=b2d-1,tag=not-1" in words
    assert "-fsdev" not in words


def test_9p_is_used_when_it_is_selected(paths: MachinePaths, server: Path) -> None:
    spec = sharing(paths)
    machine = QemuDriver(spec, paths, lambda: DIRECT, QemuSettings("tcg", "9p"))
    machine.create(b"payload")
    with pytest.raises(HypervisorError):
        machine.start()
    assert "-fsdev" in (paths.folder.parent / "called").read_text().splitlines()
    assert machine.limitations() == []


def test_an_unavailable_virtiofs_is_reported(paths: MachinePaths, server: Path) -> None:
    (server / "virtiofsd").unlink()
    (limitation,) = QemuDriver(sharing(paths), paths, lambda: DIRECT, QemuSettings("tcg", "virtiofs")).limitations()
    assert limitation.startswith("folders of this host are shared by 9p: virtiofs needs ")


def test_a_machine_saved_with_9p_resumes_with_9p(paths: MachinePaths, server: Path) -> None:
    spec = sharing(paths)
    program(server / "virtiofsd", "")
    write_saved_state(paths, spec)
    program(server / "virtiofsd", ANSWERS)
    words = qemu_arguments(paths, spec)
    assert words[-1] == "-S"
    assert "-fsdev" in words
    assert paths.qemu_saved.exists()


def test_a_machine_saved_with_virtiofs_resumes_with_it_and_missing_folders_are_reported(
    paths: MachinePaths, server: Path
) -> None:
    spec = sharing(paths, str(paths.folder.parent / "mine"))
    (paths.folder.parent / "mine").mkdir()
    write_saved_state(paths, spec)
    assert qemu_arguments(paths, spec)[-1] == "-S"
    assert not paths.taken.exists()
    (paths.folder.parent / "mine").rmdir()
    assert qemu_arguments(paths, spec)[-1] == "-S"
    assert paths.taken.exists()


def test_a_machine_saved_with_virtiofs_boots_where_virtiofsd_is_missing(paths: MachinePaths, server: Path) -> None:
    spec = sharing(paths)._replace(hardware=HARDWARE)
    write_saved_state(paths, spec)
    (server / "virtiofsd").unlink()
    words = qemu_arguments(paths, spec)
    assert words[-1] != "-S"
    assert "-fsdev" in words
    assert not paths.qemu_saved.exists()


def test_a_virtiofsd_that_has_ended_is_reported(paths: MachinePaths) -> None:
    alive = identify(os.getpid())
    assert alive is not None
    record = Launch(Endpoint("127.0.0.1", 1, 2), [], "", process=alive, servers=(alive,))
    machine = driver(paths, sharing(paths))
    QemuProcess(paths).record(record)
    assert machine.mount_folders() == []
    QemuProcess(paths).record(record._replace(servers=(alive, alive._replace(start_time="0"))))
    with pytest.raises(InvalidStateError, match="b2d restart"):
        machine.mount_folders()


def test_a_qemu_without_virtiofs_support_is_recognised() -> None:
    for line in ("'vhost-user-fs-pci' is not a valid device model name", "invalid object type: memory-backend-memfd"):
        assert shared_folders.hint_for_log(line, "box") == "B2D_MOUNT_TYPE=9p b2d up --vm box"
        assert shared_folders.hint_for_log(line, "boot2docker-vm") == "B2D_MOUNT_TYPE=9p b2d up"


@pytest.mark.parametrize(
    ("user", "namespaces", "sandbox"),
    [(0, False, "chroot"), (1000, True, "namespace"), (1000, False, "none")],
)
def test_it_uses_the_strictest_available_sandbox(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: int, namespaces: bool, sandbox: str
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: user)
    unshare = tmp_path / "unshare"
    unshare.write_text(f"#!/bin/sh\nexit {0 if namespaces else 1}\n")
    unshare.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    words = list(virtiofsd.build_arguments(Path("/data"), read_only=False))
    assert words[words.index("--sandbox") + 1] == sandbox
    assert ("--modcaps=-mknod:-setfcap" in words) == (user == 0)
    unshare.unlink()
    assert virtiofsd.has_namespaces() is False
