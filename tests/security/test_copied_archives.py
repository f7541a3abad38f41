"""Sizes declared by a guest or in an archive limit reads; they never control the amount written or stored."""

import io
import os
import subprocess
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tarfile import TarInfo

import pytest

from b2d.diagnostics.logs import _GrowingFile
from b2d.errors import B2dError, InvalidStateError
from b2d.guest.base import Pipe
from b2d.guest.ssh import pipe
from b2d.guest.ssh.pipe import SshPipe
from b2d.guest.ssh.streams import collect
from b2d.guest.transfer import tar_writer
from b2d.guest.transfer.copier import Copier
from b2d.guest.transfer.tar_writer import MAX_REPORTED, ForeignEntry, entries
from b2d.models import CommandResult
from b2d.reporting.log import LogReporter
from tests.support.fakes import FakeReporter

MIB = 1 << 20


class SendingGuest:
    """A guest whose command writes these bytes and succeeds."""

    def __init__(self, content: bytes) -> None:
        self._out = io.BytesIO(content)
        self.taken = 0
        self.sent = 0

    @contextmanager
    def piped(self, command: str) -> Iterator[Pipe]:
        yield self

    def read(self, size: int) -> bytes:
        piece = self._out.read(size)
        self.taken += len(piece)
        return piece

    def write(self, content: bytes) -> None:
        self.sent += len(content)
        assert self.sent < MIB, "more is sent than the archive had"

    def end(self) -> CommandResult:
        return CommandResult(0, b"", b"")


def fetch(folder: Path, content: bytes) -> None:
    Copier("box", SendingGuest(content), LogReporter()).fetch("/x", str(folder))


def sparse(folder: Path, style: str) -> bytes:
    """Return an archive of a few kilobytes with a sparse file of 3 GiB."""
    with (folder / "x").open("wb") as file:
        file.truncate(3 << 30)
    command = ["tar", "-S", f"--format={style.partition(':')[0]}", "-C", str(folder), "-c", "x"]
    if ":" in style:
        command.insert(2, f"--sparse-version={style.partition(':')[2]}")
    packed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert len(packed) < 20_000
    (folder / "x").unlink()
    return packed


@pytest.mark.needs("tar")
@pytest.mark.parametrize("style", ["gnu", "posix:0.0", "posix:0.1", "posix:1.0"])
def test_sparse_files_in_an_archive_are_refused(tmp_path: Path, style: str) -> None:
    archive, to = sparse(tmp_path, style), tmp_path / "to"
    to.mkdir()
    with pytest.raises(B2dError, match="a sparse file"):
        fetch(to, b"1\n" + archive)
    assert list(to.iterdir()) == []
    guest = SendingGuest(b"")
    with pytest.raises(B2dError, match="a sparse file"):
        Copier("box", guest, LogReporter()).send_stream(io.BytesIO(archive), "/tmp")
    assert guest.sent < 10_000


def entry(name: str = "x", **facts: object) -> TarInfo:
    info = TarInfo(name)
    for key, value in facts.items():
        setattr(info, key, value)
    return info


def archive(*headers: bytes) -> bytes:
    return b"1\n" + b"".join(headers) + bytes(1024)


def pax(**headers: str) -> bytes:
    info = TarInfo("x")
    info.pax_headers = {key.replace("_", "."): value for key, value in headers.items()}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


LONG = entry("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=5 << 30).tobuf(tarfile.GNU_FORMAT)
NEST = entry("././@LongLink", type=tarfile.GNUTYPE_LONGNAME, size=2).tobuf(tarfile.GNU_FORMAT) + b"x\0".ljust(
    512, b"\0"
)
MANY = b"1" * 200_000
BAD = {
    "oversized": entry(size=1 << 60).tobuf(tarfile.GNU_FORMAT) + b"little",
    "negative": entry(size=-4096).tobuf(tarfile.GNU_FORMAT),
    "a name of gigabytes": LONG,
    "a name of a name": NEST * 5000,
    "negative by pax": pax(size="-512"),
    "a time that is none": pax(mtime="nan"),
    "a time beyond all": pax(mtime="1e300"),
    "a name with a zero": pax(path="x\0y"),
    "a name that leads outside behind a zero": pax(path="x/..\0y"),
    "a long description": entry("p", type=tarfile.XHDTYPE, size=len(MANY)).tobuf() + MANY.ljust(200_192, b"\0"),
    "a link to nowhere near": pax(linkpath="y" * 5000),
    "a path that nothing can have": pax(path="y/" * 2500),
    "folders one in another": pax(path="y/" * 300),
    "holes that are no numbers": pax(GNU_sparse_map="a,b"),
    "holes without an end": pax(GNU_sparse_major="1", GNU_sparse_minor="0"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("bad", list(BAD))
def test_a_damaged_archive_is_reported_in_one_sentence_and_leaves_nothing(tmp_path: Path, bad: str) -> None:
    with pytest.raises(B2dError):
        fetch(tmp_path, archive(BAD[bad]))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(B2dError):
        Copier("box", SendingGuest(b""), LogReporter()).send_stream(io.BytesIO(archive(BAD[bad])[2:]), "/tmp")


@pytest.mark.parametrize(
    "line", [b"9" * 6000 + b"\n", b"9" * 30, b"-5\n", b"\n", b"1_0\n", "\u0663\n".encode(), b"1" * MIB, b" 1\n"]
)
def test_an_invalid_size_line_is_refused_after_few_bytes(tmp_path: Path, line: bytes) -> None:
    guest = SendingGuest(line + b"x" * 100)
    with pytest.raises(B2dError, match="sent no size"):
        Copier("box", guest, LogReporter()).fetch("/x", str(tmp_path))
    assert guest.taken < 100
    assert list(tmp_path.iterdir()) == []


class Channel:
    """An SSH channel whose command writes endlessly to one of its streams."""

    exit_status, eof_received, closed = 0, True, False

    def __init__(self, stream: str = "stdout", ends_after: int = 1 << 40) -> None:
        self._stream = stream
        self._ends_after = ends_after
        self.status_event = threading.Event()
        self.status_event.set()
        self.given = 0

    def _more(self, stream: str, size: int) -> bytes:
        if self.given >= self._ends_after or stream != self._stream:
            return b""
        self.given += size
        return bytes(size)

    def recv(self, size: int) -> bytes:
        return self._more("stdout", size)

    def recv_stderr(self, size: int) -> bytes:
        return self._more("stderr", size)

    def settimeout(self, _: object) -> None:
        """Do nothing."""

    def shutdown_write(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_excessive_output_of_a_command_is_not_stored(stream: str) -> None:
    tracemalloc.start()
    with pytest.raises(InvalidStateError, match="wrote more than"):
        collect(Channel(stream, 200 * MIB), 60, "yes", MIB, "box")  # type: ignore[arg-type]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * MIB


def test_data_after_an_archive_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, "REST_LIMIT", MIB)
    channel = Channel()
    with pytest.raises(InvalidStateError, match="writes more than expected"):
        SshPipe(channel, 1, "box").end()  # type: ignore[arg-type]
    assert channel.given < 2 * MIB


def test_only_the_end_of_an_endless_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2d.diagnostics.logs.LIMIT", 1000)
    log = tmp_path / "serial.log"
    with log.open("wb") as file:
        file.truncate(5 << 30)
        file.seek(-4, os.SEEK_END)
        file.write(b"end\n")
    growing = _GrowingFile(log)
    assert growing.read_new() == bytes(996) + b"end\n"
    assert growing.read_new() == b""


def globals_of(number: int) -> bytes:
    """Return a global pax header with a key and value for that number."""
    return TarInfo.create_pax_global_header({f"b2d.{number}": "y" * 500})


@pytest.mark.parametrize("with_globals", [False, True])
def test_entries_of_a_large_archive_do_not_accumulate_in_memory(with_globals: bool) -> None:
    header = entry("x", type=tarfile.DIRTYPE).tobuf()
    headers = b"".join((globals_of(number) if with_globals else b"") + header for number in range(20_000))
    with tarfile.open(fileobj=io.BytesIO(headers + bytes(1024)), mode="r|", tarinfo=ForeignEntry) as archive:
        tracemalloc.start()
        assert sum(1 for _ in entries(archive)) == 20_000
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < MIB


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE])
def test_too_many_links_and_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes) -> None:
    """Links are created after everything else, so each takes memory until then."""
    monkeypatch.setattr(tar_writer, "DEFERRED_LIMIT", MIB)
    top = entry("x", type=tarfile.DIRTYPE).tobuf()
    many = (entry(f"x/{number}", type=kind, linkname="y" * 3000).tobuf(tarfile.GNU_FORMAT) for number in range(2500))
    headers = top + b"".join(many)
    with pytest.raises(B2dError, match="too many links and folders"):
        fetch(tmp_path, archive(headers))
    assert list(tmp_path.iterdir()) == []
    if kind == tarfile.DIRTYPE:  # a link of the archive is passed on at once
        with pytest.raises(B2dError, match="too many links and folders"):
            Copier("box", DiscardingGuest(), LogReporter()).send_stream(io.BytesIO(headers), "/tmp")


class DiscardingGuest(SendingGuest):
    """A guest that accepts any number of bytes."""

    def __init__(self) -> None:
        super().__init__(b"")

    def write(self, content: bytes) -> None:
        self.sent += len(content)


def test_only_the_first_few_skipped_entries_are_named(tmp_path: Path) -> None:
    top = entry("x", type=tarfile.DIRTYPE).tobuf()
    fifos = b"".join(entry(f"x/{number}", type=tarfile.FIFOTYPE).tobuf() for number in range(100))
    reporter = FakeReporter()
    Copier("box", SendingGuest(archive(top, fifos)), reporter).fetch("/x", str(tmp_path))
    Copier("box", DiscardingGuest(), reporter).send_stream(io.BytesIO(top + fifos + bytes(1024)), "/tmp")
    warned = reporter.texts("warn")
    named = [f"x/{number} is not a file, folder or link and was skipped" for number in range(MAX_REPORTED)]
    assert warned == 2 * [*named, "more entries that are not files, folders or links were skipped"]
