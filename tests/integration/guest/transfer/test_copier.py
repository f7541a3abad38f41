"""Copies between this host and a guest: as cp -a, atomic, and through no link."""

import io
import os
import resource
import signal
import stat
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from b2d.errors import B2dError, InvalidStateError, WaitTimeoutError
from b2d.guest.ssh import client
from b2d.guest.ssh.client import SshGuest
from b2d.guest.transfer.copier import Copier
from b2d.guest.transfer.tar_extract import Unpacker, place_file, remove_unfinished
from b2d.host.polling import wait_until
from b2d.models import Endpoint
from b2d.paths import MachinePaths
from tests.support.fakes import FakeReporter
from tests.support.ssh_server import Sshd, guest_of, machine

NOBODY = 65534
ODD = "grüße 🐳 'n\"$x"


@pytest.fixture(params=["gnu", "busybox"])
def tools(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use this host's programs as the guest's, or those of b2d's image (busybox)."""
    if request.param == "busybox":
        (tmp_path / "bin").mkdir()
        subprocess.run(["busybox", "--install", "-s", str(tmp_path / "bin")], check=True)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def paths(tmp_path: Path) -> MachinePaths:
    return machine(tmp_path)


@pytest.fixture
def sshd(paths: MachinePaths, tools: None) -> Iterator[Sshd]:
    with guest_of(paths).running() as server:
        yield server


@pytest.fixture
def reporter() -> FakeReporter:
    return FakeReporter()


@pytest.fixture
def copying(sshd: Sshd, paths: MachinePaths, reporter: FakeReporter) -> Iterator[Copier]:
    with SshGuest(Endpoint("127.0.0.1", sshd.port, 2376), paths) as guest:
        yield Copier("box", guest, reporter)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Create the guest's folder."""
    folder = tmp_path / "guest"
    folder.mkdir()
    return folder


def a_tree(root: Path) -> Path:
    """Create files, folders and links of every copied type, with modes and times."""
    (root / "sub" / ODD).mkdir(parents=True)
    (root / "locked").mkdir()
    (root / ("long" * 40)).write_bytes(b"long")
    (root / "sub" / ODD / "data").write_bytes(os.urandom(700_001))
    (root / "run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "open").write_bytes(b"")
    (root / "open").chmod(0o666)
    (root / "again").hardlink_to(root / "run.sh")
    (root / "-c").write_bytes(b"no option")
    (root / "relative").symlink_to("sub/./x")
    (root / "outward").symlink_to("/etc/passwd")
    (root / "locked" / "inside").write_bytes(b"in")
    (root / "locked" / "outward").symlink_to("/etc/passwd")
    os.utime(root / "run.sh", (1_000_000_000, 1_000_000_000))
    (root / "locked").chmod(0o500)
    for folder in (root / "locked", root / "sub" / ODD, root / "sub", root):
        os.utime(folder, (1_100_000_000, 1_100_000_000))
    root.chmod(0o750)
    return root


def contents(root: Path) -> dict[str, tuple[object, ...]]:
    """Return every path with its type, content, mode and time."""
    entries: dict[str, tuple[object, ...]] = {}
    for path in [root, *sorted(root.rglob("*"))]:
        facts, name = path.lstat(), str(path.relative_to(root))
        if path.is_symlink():
            entries[name] = ("link", os.readlink(path))  # noqa: PTH115
        elif path.is_dir():
            entries[name] = ("folder", stat.S_IMODE(facts.st_mode), int(facts.st_mtime))
        else:
            entries[name] = (path.read_bytes(), stat.S_IMODE(facts.st_mode), int(facts.st_mtime), facts.st_nlink)
    return entries


def is_tidy(*folders: Path) -> bool:
    """Return True when no unfinished copy is left in the folders."""
    return not [path for folder in folders for path in folder.rglob(".b2d-*")]


def test_a_folder_is_copied_both_ways_unchanged(copying: Copier, local: Path, remote: Path) -> None:
    tree = a_tree(local / "tree")
    sent = copying.send(str(tree), f"{remote}/new")
    assert (sent.path, sent.files) == (f"{remote}/new", 10)
    assert contents(remote / "new") == contents(tree)
    fetched = copying.fetch(f"{remote}/new", str(local / "back"))
    assert (fetched.path, fetched.files) == (str(local / "back"), 10)
    assert contents(local / "back") == contents(tree)
    assert is_tidy(local, remote)


@pytest.mark.parametrize("way", ["send", "fetch"])
def test_the_target_path_is_that_of_cp(copying: Copier, local: Path, remote: Path, way: str) -> None:
    """The result is compared with `cp -a` on this host for every form of the two paths."""
    source, target = (local, remote) if way == "send" else (remote, local)
    cases = ["file to", "file to/", "file new", "tree to", "tree to/", "tree new", "tree new/", "tree/. to"]
    cases += ["tree/. new", "tree/ to", "link to", "link new", "tolink to", "file linked", "file old", "tree linked/"]
    for number, case in enumerate(cases):
        first, second = case.split()
        ours, theirs = target / f"ours{number}", target / f"theirs{number}"
        for end in (ours, theirs):
            (end / "to" / "tree").mkdir(parents=True)
            (end / "to" / "tree" / "kept").write_text("kept")
            (end / "old").write_text("old")
            (end / "linked").symlink_to("to")
        begin = source / f"from{number}"
        (begin / "tree" / "sub").mkdir(parents=True)
        (begin / "tree" / "sub" / "a").write_text("a")
        (begin / "file").write_text("new")
        (begin / "link").symlink_to("file")
        (begin / "tolink").symlink_to("tree")
        getattr(copying, way)(f"{begin}/{first}", f"{ours}/{second}")
        subprocess.run(["/bin/cp", "-a", f"{begin}/{first}", f"{theirs}/{second}"], check=True)
        assert names(ours) == names(theirs), case
    assert is_tidy(local, remote)


def names(root: Path) -> dict[str, object]:
    kinds = {str(path.relative_to(root)): path for path in sorted(root.rglob("*"))}
    return {
        name: os.readlink(path) if path.is_symlink() else path.is_dir() or path.read_bytes()  # noqa: PTH115
        for name, path in kinds.items()
    }


@pytest.mark.parametrize("way", ["send", "fetch"])
@pytest.mark.parametrize(
    "case",
    [
        ("none", "new", "No such file or directory"),
        ("none/none", "new", "No such file or directory"),
        ("file/", "new", "folder|directory"),
        ("file", "none/", "folder"),
        ("file", "none/new", "folder"),
        ("tree", "none/new", "folder"),
        ("tree", "file", "not a folder|does not exist"),
        ("tree/.", "file", "not a folder|does not exist"),
        ("tree", "to", "link|not a folder|does not exist"),
        ("file", "full", "folder"),
    ],
)
def test_an_impossible_copy_is_reported_and_changes_nothing(
    copying: Copier, local: Path, remote: Path, way: str, case: tuple[str, str, str]
) -> None:
    source, to, message = case
    begin, end = (local, remote) if way == "send" else (remote, local)
    for side in (begin, end):
        (side / "tree").mkdir()
        (side / "file").write_text("file")
    (end / "to").mkdir()
    (end / "to" / "tree").symlink_to("..")  # a copy does not follow a link that the user did not type
    (end / "full" / "file").mkdir(parents=True)
    before = contents(end)
    with pytest.raises(B2dError, match=message) as caught:
        getattr(copying, way)(f"{begin}/{source}", f"{end}/{to}")
    assert caught.value.exit_code == 1
    assert names(end) == {name: kind for name, kind in names(end).items() if name in before}
    assert {name: entry[0] for name, entry in contents(end).items()} == {
        name: entry[0] for name, entry in before.items()
    }


def test_special_files_are_skipped_and_reported(
    copying: Copier, reporter: FakeReporter, local: Path, remote: Path
) -> None:
    for side in (local, remote):
        (side / "tree").mkdir()
        os.mkfifo(side / "tree" / "fifo")
        (side / "tree" / "file").write_text("file")
    assert copying.send(f"{local}/tree", f"{remote}/new").files == 1
    assert names(remote / "new") == {"file": b"file"}
    copying.fetch(f"{remote}/tree", f"{local}/new")
    assert names(local / "new") == {"file": b"file"}
    assert len([line for line in reporter.texts("warn") if "fifo" in line and "skipped" in line]) == 2


def test_archives_are_copied_from_stdin_and_to_stdout(copying: Copier, local: Path, remote: Path) -> None:
    tree = a_tree(local / "tree")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.add(tree, "/tree")
    (remote / "to" / "tree").mkdir(parents=True)
    assert copying.send_stream(io.BytesIO(packed.getvalue()), f"{remote}/to").files == 10
    assert set(contents(remote / "to" / "tree")) == set(contents(tree))
    assert names(remote / "to" / "tree") == names(tree)
    came = bytearray()
    copying.fetch_stream(f"{remote}/to/tree", came.extend)
    with tarfile.open(fileobj=io.BytesIO(bytes(came))) as archive:
        assert len(archive.getmembers()) == 14
        assert {name.partition("/")[0] for name in archive.getnames()} == {"tree"}
    for content, to, message in (
        (packed.getvalue()[:-400], "to", "is incomplete"),
        (b"no archive" * 1000, "to", "is incomplete"),
        (packed.getvalue(), "none", "no such folder"),
    ):
        with pytest.raises(B2dError, match=message):
            copying.send_stream(io.BytesIO(content), f"{remote}/{to}")
    wait_until(lambda: is_tidy(remote), condition="the guest to tidy up", timeout_s=10)
    assert names(remote / "to" / "tree") == names(tree)


def an_archive(*entries: tarfile.TarInfo) -> tarfile.TarFile:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"evil") if entry.isreg() else None)
    return tarfile.open(fileobj=io.BytesIO(written.getvalue()), mode="r|")


def an_entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, target, 0o6777
    entry.size = 4 if kind == tarfile.REGTYPE else 0
    return entry


@pytest.mark.parametrize(
    "entries",
    [
        [an_entry("it/../../evil")],
        [an_entry("/evil")],
        [an_entry("itevil")],
        [an_entry("it/l", tarfile.SYMTYPE, ".."), an_entry("it/l/evil")],
        [an_entry("it/l", tarfile.SYMTYPE, "../secret"), an_entry("it/l")],
        [an_entry("it/l", tarfile.LNKTYPE, "it/../secret")],
        [an_entry("it/l", tarfile.LNKTYPE, "/secret")],
        [an_entry("it/l", tarfile.SYMTYPE, "../secret"), an_entry("it/h", tarfile.LNKTYPE, "it/l")],
    ],
)
def test_a_malicious_archive_writes_nothing_outside(tmp_path: Path, entries: list[tarfile.TarInfo]) -> None:
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "it"
    unpacker = Unpacker(root, "it", lambda _: None, lambda _: None)
    with pytest.raises((B2dError, OSError)):
        unpacker.unpack(an_archive(an_entry("it", tarfile.DIRTYPE), *entries))
    assert {path.name for path in tmp_path.iterdir()} <= {"secret", "it"}
    assert (tmp_path / "secret").read_text() == "secret"
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_a_copied_file_loses_its_setuid_bits(tmp_path: Path) -> None:
    unpacker = Unpacker(tmp_path / "it", "it", lambda _: None, lambda _: None)
    unpacker.unpack(an_archive(an_entry("it")))
    assert stat.S_IMODE((tmp_path / "it").stat().st_mode) == 0o777


def test_read_only_folders_are_moved_and_removed_by_ordinary_users_too() -> None:
    """Root may do anything; other users may not move such a folder or remove its content."""
    with tempfile.TemporaryDirectory() as name, as_nobody(Path(name)) as folder:
        (folder / "to" / "tree").mkdir(parents=True)
        for final, mode in ((folder / "new", 0o500), (folder / "to", 0o555)):
            with remove_unfinished(folder) as unfinished:
                tree = unfinished / "it"
                for path in (tree / "tree", tree / "shut", tree / "left" / "shut"):
                    path.mkdir(parents=True)
                    (path / "file").touch()
                for path, permissions in ((tree / "shut", 0o500), (tree / "tree", 0o500), (tree, mode)):
                    path.chmod(permissions)
                place_file(tree, final)
            assert (final / "tree" / "file").exists() and (final / "shut").stat().st_mode & 0o777 == 0o500
        with remove_unfinished(folder) as unfinished:
            (unfinished / "a" / "b").mkdir(parents=True)
            (unfinished / "a" / "b").chmod(0)
            (unfinished / "a").chmod(0o500)
        assert is_tidy(folder)
        assert (folder / "new").stat().st_mode & 0o777 == 0o500
        (folder / "new").chmod(0o700)


@contextmanager
def as_nobody(folder: Path) -> Iterator[Path]:
    """Run the block as an unprivileged user, in a folder of that user."""
    if os.geteuid() != 0:
        yield folder
        return
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        os.seteuid(0)


# failures during a copy


@pytest.mark.parametrize("old", [True, False])
def test_a_broken_connection_leaves_no_partial_file(
    copying: Copier, sshd: Sshd, local: Path, remote: Path, old: bool
) -> None:
    (remote / "big").write_bytes(bytes(5_000_000))
    if old:
        (local / "big").write_text("old")
    sshd.hangs_up = "output"
    with pytest.raises(InvalidStateError, match="the connection to the guest broke"):
        copying.fetch(f"{remote}/big", str(local))
    assert names(local) == ({"big": b"old"} if old else {})


def test_a_file_that_does_not_fit_is_reported(copying: Copier, local: Path, remote: Path) -> None:
    (remote / "big").write_bytes(bytes(3_000_000))
    (local / "big").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(B2dError, match=r"/big: File too large") as caught:
            copying.fetch(f"{remote}/big", str(local))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 1
    assert names(local) == {"big": b"old"}


@pytest.mark.parametrize("way", ["send", "fetch"])
def test_an_interrupted_copy_leaves_the_previous_file(copying: Copier, local: Path, remote: Path, way: str) -> None:
    """Ctrl-C arrives while a fifo blocks the other side in the middle of a file."""
    begin, end = (local, remote) if way == "send" else (remote, local)
    (begin / "big").write_bytes(bytes(50_000_000))
    (end / "big").write_text("old")

    def strike() -> None:
        wait_until(lambda: any(end.glob(".b2d-*/*")), condition="the copy", timeout_s=30, interval_s=0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=strike, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            getattr(copying, way)(f"{begin}/big", str(end))
            (end / "big").write_text("old")
    wait_until(lambda: is_tidy(end), condition="the guest to tidy up", timeout_s=10)
    assert (end / "big").read_text() == "old"


def test_a_guest_that_stops_answering_times_out(copying: Copier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FILE_S", 0.5)
    with pytest.raises(WaitTimeoutError, match="stopped answering"), copying.guest.piped("sleep 60") as pipe:
        pipe.read(1)
    with pytest.raises(WaitTimeoutError, match="stopped answering"), copying.guest.piped("sleep 60") as pipe:
        for _ in range(1000):
            pipe.write(bytes(100_000))
    with pytest.raises(WaitTimeoutError, match="stopped answering"), copying.guest.piped("sleep 60") as pipe:
        pipe.end()
