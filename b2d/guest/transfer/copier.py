"""Copy files between this host and a guest as tar streams; a target appears only when it is complete."""

import lzma
import os
import shlex
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tarfile import TarFile
from typing import IO, Literal, cast

from b2d.errors import B2dError
from b2d.formats import numbers
from b2d.guest.base import Pipe, PipeClosedError, StreamsCommands
from b2d.guest.transfer import copy_endpoints
from b2d.guest.transfer.tar_extract import Unpacker, final_path, place_file, remove_unfinished
from b2d.guest.transfer.tar_writer import (
    CHUNK,
    ENCODING,
    ERRORS,
    OWNERS,
    ForeignEntry,
    Packer,
    list_entries,
    pack,
    repack,
)
from b2d.host.files import os_errors_as_b2d_errors
from b2d.machine_names import command_for
from b2d.reporting.base import Reporter

FILE, FOLDER = "file", "folder"
LINE_LIMIT = 24  # bytes of the line with the size
SIZE_LIMIT = 1 << 44  # KiB
SEND_AS_ROOT = "as root: tar -c FILE | {}", "ssh -- sudo tar -x -C FOLDER"
FETCH_AS_ROOT = "as root: {} | tar -x", "ssh -- sudo tar -c -C FOLDER FILE"
PART, WHOLE = "it", "whole"  # names in a stream to the guest: the content, and the mark of its end
SEND = """
fail() { echo "$*" >&2; exit 1; }
to=$1 name=$2 kind=$3 mode=$4 many=$5
[ -z "$many" ] || [ -d "$to" ] || fail "no such folder"
if [ -n "$name" ] && [ -d "$to" ]; then to=${to%/}/$name; [ $kind = file ] || [ ! -h "$to" ] || fail "$to is a link"
elif [ -h "$to" ]; then to=$(readlink -f "$to"); fi
if [ $kind = file ]; then
    [ ! -d "$to" ] || [ -h "$to" ] || fail "$to is a folder"
    case $to in */) fail "no such folder" ;; esac
else
    [ ! -e "$to" ] || [ -d "$to" ] || fail "$to exists and is not a folder"
fi
up=$to
[ $kind = folder ] && [ -d "$to" ] || up=$(dirname "$to")
[ -d "$up" ] || fail "the folder $up does not exist"
[ -w "$up" ] || fail "$up: Permission denied"
made=$(mktemp -d "$up/.b2d-XXXXXX") || exit 1
clean() { rm -rf "$made" 2>/dev/null || { find "$made" -type d -exec chmod 700 {} +; rm -rf "$made"; }; }
trap clean EXIT
trap "exit 1" HUP INT TERM PIPE
tar -x -p -f - -C "$made" || exit 1
[ -e "$made/whole" ] || fail "the transfer was interrupted"
tar -x -p -f "$made/whole" -C "$made" || exit 1
if [ $kind = folder ] && [ -d "$to" ]; then
    umask 0
    cp -RPlf "$made/it/." "$to/" || exit 1
else
    mv -f "$made/it" "$to" || exit 1
    [ $kind = file ] || chmod "$mode" "$to" || exit 1
fi
echo "$to"
"""
FETCH = """
fail() { echo "$*" >&2; exit 1; }
[ -d "$1" ] || fail "No such file or directory"
cd "$1" 2>/dev/null || fail "Permission denied"
[ -e "$2" ] || [ -h "$2" ] || fail "No such file or directory"
size=$(du -sk "./$2" 2>/dev/null | cut -f1)
echo "${size:-0}"
exec tar -c -f - -- "$2"
"""


@dataclass(frozen=True, slots=True)
class Copied:
    """A finished copy: its target, and its number of files."""

    path: str
    files: int


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies to and from a machine's guest, as the user docker."""

    name: str  # the machine's
    guest: StreamsCommands
    reporter: Reporter

    def send(self, source: str, to: str, *, many: bool = False) -> Copied:
        """Copy a file or folder of this host. Raises B2dError; an existing target is then unchanged."""
        typed = _with_slashes(source)
        name, as_folder = copy_endpoints.last_name(typed), typed.endswith("/")
        root = Path(os.path.realpath(source)) if as_folder or not name else Path(source)
        with os_errors_as_b2d_errors(root):
            entries = list_entries(root, PART, self.reporter.warn)
        if not entries or (as_folder and not entries[0][1].isdir()):
            raise B2dError(f"{source} is not a {'folder' if as_folder else 'file, folder or link'}")
        first = entries[0][1]
        mode, kind = first.mode, FOLDER if first.isdir() else FILE
        if kind == FOLDER:
            first.mode |= OWNERS  # until it is in place: without write access it could not be moved
        script = _script(SEND, to, name, kind, f"{mode:o}", "many" if many else "")
        text, size = f"{name or source} to {self.name}", sum(entry.size for _, entry in entries)
        with self.guest.piped(script) as pipe, self.reporter.progress(text, size) as bar:
            packer = Packer(pipe.write, bar.advance)
            with (
                suppress(PipeClosedError),
                os_errors_as_b2d_errors(root),
            ):  # the result of the pipe has the guest's reason
                pack(entries, packer)
                packer.end(WHOLE)
            return Copied(self._end(pipe, to, SEND_AS_ROOT), packer.files)

    def send_stream(self, stream: IO[bytes], to: str) -> Copied:
        """Unpack an archive into an existing folder of the guest. Raises B2dError."""
        script = _script(SEND, to, "", FOLDER, "755", "many")
        with self.guest.piped(script) as pipe, self.reporter.step(f"stdin to {self.name}"):
            packer = Packer(pipe.write, lambda _: None)
            with (
                suppress(PipeClosedError),
                os_errors_as_b2d_errors(Path("stdin")),
                _open_archive("stdin", stream, "r|*") as archive,
            ):
                repack(archive, PART, packer, self.reporter.warn)
                packer.end(WHOLE)
            return Copied(self._end(pipe, to, SEND_AS_ROOT), packer.files)

    def fetch(self, source: str, to: str, *, many: bool = False) -> Copied:
        """Copy a file or folder of the guest. Raises B2dError; an existing target is then unchanged."""
        (folder, inside), name = copy_endpoints.split(source), copy_endpoints.last_name(source)
        final, base = final_path(to, name, many=many)
        script = _script(FETCH, folder, inside)
        with self.guest.piped(script) as pipe, os_errors_as_b2d_errors(final), remove_unfinished(base) as temporary:
            size = self._size(pipe, source)
            with self.reporter.progress(f"{name or source} of {self.name}", size) as bar:
                unpacker = Unpacker(temporary / PART, "" if inside == "." else inside, bar.advance, self.reporter.warn)
                with self._sent(pipe, source) as archive:
                    unpacker.unpack(archive)
            new = temporary / PART
            if not new.is_dir() and _with_slashes(to).endswith("/") and not Path(to).is_dir():
                raise B2dError(f"the folder {to} does not exist")
            place_file(new, final)
        return Copied(os.fspath(final), unpacker.files)

    def fetch_stream(self, source: str, write: Callable[[bytes], None]) -> None:
        """Write a file or folder of the guest as an archive. Raises B2dError."""
        with self.guest.piped(_script(FETCH, *copy_endpoints.split(source))) as pipe:
            self._size(pipe, source)
            while chunk := pipe.read(CHUNK):
                write(chunk)
            self._end(pipe, source, FETCH_AS_ROOT)

    def _size(self, pipe: Pipe, source: str) -> int:
        """Return the approximate size in bytes from the first line. Raises B2dError for an invalid one."""
        line = b""
        while not line.endswith(b"\n"):
            byte = pipe.read(1)
            if not byte:
                self._end(pipe, source, FETCH_AS_ROOT)
                raise B2dError(f"{self.name}:{source}: the guest sent nothing")
            line += byte
            if len(line) > LINE_LIMIT:
                raise B2dError(f"{self.name}:{source}: the guest sent no size")
        try:
            return numbers.parse(line[:-1], SIZE_LIMIT) << 10
        except ValueError as error:
            raise B2dError(f"{self.name}:{source}: the guest sent no size") from error

    @contextmanager
    def _sent(self, pipe: Pipe, source: str) -> Iterator[TarFile]:
        """Yield the archive from the guest; after a failure the guest's own error takes precedence."""
        try:
            with _open_archive(self.name, cast(IO[bytes], pipe), "r|") as archive:
                yield archive
        except B2dError:
            self._end(pipe, source, FETCH_AS_ROOT)
            raise
        self._end(pipe, source, FETCH_AS_ROOT)

    def _end(self, pipe: Pipe, path: str, as_root: tuple[str, str]) -> str:
        """Return the command's output. Raises B2dError when it failed, with `as_root` as the hint where that helps."""
        result = pipe.end()
        stderr = result.stderr.decode(errors="replace").strip()
        if result.exit_code != 0:
            cause = stderr.splitlines()[0] if stderr else f"exit code {result.exit_code}"
            text, verb = as_root
            if "No space" in cause:
                hint = command_for("ssh -- df -h", self.name)
            elif "denied" in cause or "not permitted" in cause:
                hint = text.format(command_for(verb, self.name))
            else:
                hint = ""
            raise B2dError(f"{self.name}:{path}: {cause.removeprefix('tar: ')}", hint=hint, details=stderr)
        return os.fsdecode(result.stdout).removesuffix("\n")


@contextmanager
def _open_archive(origin: str, stream: IO[bytes], mode: "Literal['r|', 'r|*']") -> Iterator[TarFile]:
    """Open the archive in a stream. Raises B2dError for an invalid one, or one beyond the limits."""
    options = {"bufsize": CHUNK, "encoding": ENCODING, "errors": ERRORS, "tarinfo": ForeignEntry}
    try:
        with tarfile.open(mode=mode, fileobj=stream, **options) as archive:  # type: ignore[call-overload]
            yield archive
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise B2dError(f"the archive from {origin} is incomplete: {error}") from error
    except (
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:  # of numbers and names in it, which tarfile does not check
        raise B2dError(f"the archive from {origin} is damaged", details=repr(error)) from error


def _script(text: str, *arguments: str) -> str:
    return shlex.join(["sh", "-c", text, "b2d", *arguments])


def _with_slashes(path: str) -> str:
    """Return the path with slashes."""
    return path.replace(os.sep, "/")
