"""The seed disk, which gives the guest its identity at every boot, and the request to format a data disk."""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from b2d.errors import B2dError, InvalidStateError
from b2d.formats import boot2docker_disk
from b2d.guest.folder_paths import Folder
from b2d.machine_names import command_for
from b2d.models import Access

SECTOR = 2048  # bytes: of a CD drive, so that the disk can be attached as a CD too
SMALL_SECTOR = 512  # bytes: of a disk
TABLE = 446  # bytes before the partition table in its first sector
PAYLOAD_LIMIT = 4096  # bytes that boot2docker's guest saves before it formats the disk
MAGIC = boot2docker_disk.MAGIC
FORMAT = b"1\n"
NETWORK = "network/"  # the folder of the network settings
LOOPBACK = "loopback"  # exists when the guest needs this host's 127.0.0.1
SHARE = "b2d-"  # prefix of the names of shared folders


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The certificates and the key of dockerd, as PEM."""

    ca: bytes
    server: bytes
    server_key: bytes


@dataclass(frozen=True, slots=True)
class Seed:
    """The identity and the settings of a guest."""

    hostname: str
    authorized_keys: str
    host_key: bytes  # private, in OpenSSH's format
    tls: TlsFiles | None  # None: dockerd listens without TLS
    access: Access = field(default_factory=Access)
    folders: Sequence[Folder] = ()  # of this host; the hypervisor shares them as b2d-0, b2d-1, ...
    network: Mapping[str, bytes] = field(default_factory=dict)  # files of network_config.py by name


def image(seed: Seed) -> bytes:
    """Return the seed disk: a tar archive, padded to whole sectors."""
    files = {
        "b2d-seed": FORMAT,
        "hostname": seed.hostname.encode() + b"\n",
        "authorized_keys": seed.authorized_keys.encode(),
        "host_ed25519": seed.host_key,
        "userdata.tar": payload(seed.authorized_keys),  # for a disk that another guest has formatted
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
    content = archive(files)
    return content + bytes(-len(content) % SECTOR)


def network(disk: bytes) -> dict[str, bytes]:
    """Return the network settings on a seed disk by name; none where it is not a seed disk."""
    return {name.removeprefix(NETWORK): content for name, content in _files(disk) if name.startswith(NETWORK)}


def access(disk: bytes) -> Access | None:
    """Return the access settings on a seed disk; None where it is not a seed disk."""
    files = dict(_files(disk))
    if "settings" not in files:
        return None
    settings, password = files["settings"].splitlines(), files.get("password", b"").decode(errors="replace")
    by_password = b"B2D_SSH_PASSWORD=yes" in settings
    return Access(by_password, password.removesuffix("\n"), has_host_loopback(disk))


def _files(disk: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files on a seed disk; of a damaged one as many as possible."""
    from b2d.guest.transfer.tar_writer import ForeignEntry, entries

    damage = (tarfile.TarError, B2dError, ValueError, LookupError, ArithmeticError)
    with suppress(*damage), tarfile.open(fileobj=io.BytesIO(disk), mode="r:", tarinfo=ForeignEntry) as archive:
        for member in entries(archive):
            if member.isreg() and (file := archive.extractfile(member)):
                yield member.name, file.read()


def has_host_loopback(disk: bytes) -> bool:
    """Return whether a seed disk lets the guest reach this host's loopback."""
    return b"B2D_HOST_LOOPBACK=no\n" not in disk


def share(number: int) -> str:
    """Return the name under which the hypervisor shares a folder."""
    return f"{SHARE}{number}"


def refuse_half_formatted(first_sector: bytes, machine: str) -> None:
    """Raise InvalidStateError where a machine's guest was interrupted while it formatted the disk.

    It continues only with its own partition table.
    """
    if first_sector.startswith(MAGIC.encode()) and any(first_sector[TABLE:SMALL_SECTOR]):
        raise InvalidStateError(
            "the guest has not finished formatting its disk, whose size must not change before",
            hint=command_for("up", machine),
        )


def payload(public_key: str) -> bytes:
    """Return the start of a blank data disk: boot2docker's request to format it, with the authorized key.

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
    return content[:PAYLOAD_LIMIT]  # tar needs only one of the two empty blocks at the end


def _member(name: str, mode: int) -> tarfile.TarInfo:
    """Return an entry of root's with the time 0: the same content gives the same bytes."""
    member = tarfile.TarInfo(name)
    member.mode = mode
    return member


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a ustar archive of files that only their owner can read."""
    return _tar([(_member(name, 0o600), content) for name, content in files.items()])


def _tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """Return a ustar archive with two empty blocks at the end, and no further padding."""
    blocks = io.BytesIO()
    for member, content in members:
        member.size = len(content)
        blocks.write(member.tobuf(tarfile.USTAR_FORMAT))
        blocks.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    blocks.write(bytes(2 * tarfile.BLOCKSIZE))
    return blocks.getvalue()
