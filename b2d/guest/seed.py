"""What the host tells the guest: who it is, on a small disk at every boot, and that it may format, once."""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from b2d.errors import B2dError, InvalidStateError
from b2d.formats import boot2docker_disk
from b2d.guest.folder_paths import Folder
from b2d.models import Access

SECTOR = 2048  # bytes: a CD drive's, so that the disk can be shown as a CD too
SMALL_SECTOR = 512  # a disk's
TABLE = 446  # bytes before the partition table in its first sector
PAYLOAD_LIMIT = 4096  # bytes: what boot2docker's guest saves before it formats the disk
MAGIC = boot2docker_disk.MAGIC
FORMAT = b"1\n"
NETWORK = "network/"  # the folder of what is told of it
LOOPBACK = "loopback"  # is there when the guest is to reach this host's 127.0.0.1
SHARE = "b2d-"  # what the names of shared folders begin with


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What dockerd needs to know its clients and to be known, as PEM."""

    ca: bytes
    server: bytes
    server_key: bytes


@dataclass(frozen=True, slots=True)
class Seed:
    """One guest's identity."""

    hostname: str
    authorized_keys: str
    host_key: bytes  # private, in OpenSSH's format
    tls: TlsFiles | None  # None: dockerd listens without TLS
    access: Access = field(default_factory=Access)
    folders: Sequence[Folder] = ()  # of the host, which a hypervisor shares under the names b2d-0, b2d-1, ...
    network: Mapping[str, bytes] = field(default_factory=dict)  # what network.py tells, by name


def image(seed: Seed) -> bytes:
    """The seed disk: a tar archive, padded to whole sectors."""
    files = {
        "b2d-seed": FORMAT,
        "hostname": seed.hostname.encode() + b"\n",
        "authorized_keys": seed.authorized_keys.encode(),
        "host_ed25519": seed.host_key,
    }
    if seed.tls is not None:
        files |= {
            "tls/ca.pem": seed.tls.ca,
            "tls/server.pem": seed.tls.server,
            "tls/server-key.pem": seed.tls.server_key,
        }
    if seed.folders:
        files["folders"] = "".join(
            f"{share(number)} {'ro' if folder.read_only else 'rw'} {folder.guest}\n"
            for number, folder in enumerate(seed.folders)
        ).encode("utf-8", "surrogateescape")
    files |= {NETWORK + name: content for name, content in seed.network.items()}
    if seed.access.password:
        files["password"] = seed.access.password.encode() + b"\n"
    settings = {
        "B2D_TLS": seed.tls is not None,
        "B2D_SSH_PASSWORD": seed.access.ssh_password,
        "B2D_HOST_LOOPBACK": seed.access.host_loopback,
    }
    files["settings"] = "".join(f"{name}={'yes' if on else 'no'}\n" for name, on in settings.items()).encode()
    content = _tar([(_member(name, 0o600), content) for name, content in files.items()])
    return content + bytes(-len(content) % SECTOR)


def network(disk: bytes) -> dict[str, bytes]:
    """What a seed disk tells of the network, by name; nothing where it is none."""
    return {name.removeprefix(NETWORK): content for name, content in _files(disk) if name.startswith(NETWORK)}


def access(disk: bytes) -> Access | None:
    """Return who may come into the guest by a seed disk; None where it is none."""
    found = dict(_files(disk))
    if "settings" not in found:
        return None
    settings, password = found["settings"].splitlines(), found.get("password", b"").decode(errors="replace")
    by_password = b"B2D_SSH_PASSWORD=yes" in settings
    return Access(by_password, password.removesuffix("\n"), has_host_loopback(disk))


def _files(disk: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the files in a seed disk, which may be damaged: as many as can be read."""
    from b2d.guest.transfer.tar_writer import ForeignEntry, entries

    damage = (tarfile.TarError, B2dError, ValueError, LookupError, ArithmeticError)
    with suppress(*damage), tarfile.open(fileobj=io.BytesIO(disk), mode="r:", tarinfo=ForeignEntry) as archive:
        for member in entries(archive):
            if member.isreg() and (file := archive.extractfile(member)):
                yield member.name, file.read()


def has_host_loopback(disk: bytes) -> bool:
    """Tell whether a seed disk lets the guest reach this host's loopback."""
    return b"B2D_HOST_LOOPBACK=no\n" not in disk


def share(number: int) -> str:
    """The name under which the hypervisor shows the guest one of the folders."""
    return f"{SHARE}{number}"


def refuse_half_formatted(first_sector: bytes) -> None:
    """Raise InvalidStateError where a guest was cut off while it formatted the disk.

    It goes on where it finds its own table.
    """
    if first_sector.startswith(MAGIC.encode()) and any(first_sector[TABLE:SMALL_SECTOR]):
        raise InvalidStateError("the guest has begun to format its disk, and goes on only at that size", hint="b2d up")


def payload(public_key: str) -> bytes:
    """What a blank data disk begins with: boot2docker's request to format it, and the key to let in.

    Raises ValueError for a key that does not fit into the first 4096 bytes.
    """
    key = public_key.encode()
    home = _member(".ssh", 0o700)
    home.type = tarfile.DIRTYPE
    content = _tar(
        [
            (_member(MAGIC, 0o644), MAGIC.encode()),
            (home, b""),
            (_member(".ssh/authorized_keys", 0o600), key),
            (_member(".ssh/authorized_keys2", 0o600), key),
        ]
    )
    if len(content) > PAYLOAD_LIMIT + tarfile.BLOCKSIZE:
        raise ValueError(f"the public key is too long for the disk's payload: {len(key)} bytes")
    return content[:PAYLOAD_LIMIT]  # of the two empty blocks at the end, one is enough for tar


def _member(name: str, mode: int) -> tarfile.TarInfo:
    """Root's, and of 1970: the same content gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.mode = mode
    return member


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A ustar archive with the two empty blocks that end it, and no padding beyond."""
    blocks = io.BytesIO()
    for member, content in members:
        member.size = len(content)
        blocks.write(member.tobuf(tarfile.USTAR_FORMAT))
        blocks.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    blocks.write(bytes(2 * tarfile.BLOCKSIZE))
    return blocks.getvalue()
