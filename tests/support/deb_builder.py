"""Small Debian packages, built as real ones are, for tests."""

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

Member = tuple[tarfile.TarInfo, bytes]
MADE = 1_700_000_000  # Unix time
PACKINGS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.compress}


@dataclass(frozen=True, slots=True)
class Deb:
    """A package in an archive."""

    name: str
    version: str
    content: bytes
    depends: str = ""

    @property
    def path(self) -> str:
        return f"pool/main/{self.name}_{self.version}_amd64.deb"


def regular(name: str, content: bytes = b"", mode: int = 0o644, mtime: int = MADE) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, mtime
    return member, content


def other(name: str, kind: bytes, target: str = "") -> Member:
    """Return a member without content; `kind` as in tarfile: DIRTYPE, SYMTYPE, LNKTYPE, CHRTYPE."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mode, member.mtime = kind, target, 0o755, MADE
    return member, b""


def a_deb(*members: Member, packing: str = "xz") -> bytes:
    """Return an ar archive of debian-binary, control.tar and data.tar."""
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": lzma.compress(_tar(regular("./control", b"Package: some\n"))),
        f"data.tar.{packing}": PACKINGS[packing](_tar(*members)),
    }
    return b"!<arch>\n" + b"".join(_ar_member(name, content) for name, content in parts.items())


def _tar(*members: Member) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def _ar_member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{MADE:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
    return header.encode() + content + b"\n" * (len(content) % 2)
