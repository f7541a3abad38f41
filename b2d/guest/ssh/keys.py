"""SSH keys: a pair for the user, and the guest's host key, which is known before the first connection."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.errors import B2dError
from b2d.host.files import (
    FileTooLargeError,
    NotRegularFileError,
    is_regular,
    os_errors_as_b2d_errors,
    read_bounded,
    write_atomic,
)
from b2d.machine_names import command_for
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from paramiko import PKey


def host_alias(paths: MachinePaths) -> str:
    """Return the guest's name in known_hosts: addresses and ports are leased, and change."""
    return f"b2d-{paths.folder.name}"


def ensure_client(paths: MachinePaths) -> None:
    """Create the user's key pair unless it exists. Raises B2dError naming a damaged file."""
    key = _ensure(paths.ssh_key)
    public = _public_line(key, "docker@b2d")
    if not _contains(paths.ssh_public_key, public):
        write_atomic(paths.ssh_public_key, public, 0o644)


def ensure_host(paths: MachinePaths) -> None:
    """Create the guest's host key unless it exists, and record it in known_hosts. Raises B2dError."""
    _record(paths, _ensure(paths.host_key))


def pin_host(paths: MachinePaths, key: "PKey") -> None:
    """Record the host key of a guest that made its own. Raises B2dError."""
    with os_errors_as_b2d_errors(paths.folder):
        write_atomic(paths.pinned_host_key, f"{key.get_name()} {key.get_base64()}\n".encode())
    ensure_known(paths)


def ensure_known(paths: MachinePaths) -> None:
    """Write known_hosts with the guest's host keys: that of this host, and a pinned one; `ssh` accepts no other.

    Raises B2dError where the key of this host is lost.
    """
    if is_regular(paths.host_key):
        with os_errors_as_b2d_errors(paths.known_hosts):
            _record(paths, _load(paths.host_key))
    elif not is_regular(paths.known_hosts):
        raise B2dError(
            f"{paths.host_key} and {paths.known_hosts} are missing: the guest's host key is unknown",
            hint=command_for("restart", paths.folder.name),
        )


def is_known(paths: MachinePaths, key: "PKey") -> bool:
    """Return whether a guest's host key is one of this machine's. Raises B2dError where those are lost."""
    ensure_known(paths)
    with os_errors_as_b2d_errors(paths.known_hosts):
        lines = read_bounded(paths.known_hosts).splitlines()
    return f"{host_alias(paths)} {key.get_name()} {key.get_base64()}".encode() in lines


def _record(paths: MachinePaths, key: "Ed25519PrivateKey") -> None:
    """Write known_hosts unless it is up to date."""
    known = [_public_line(key, "")]
    if is_regular(paths.pinned_host_key):
        known.append(read_bounded(paths.pinned_host_key))
    lines = b"".join(f"{host_alias(paths)} ".encode() + line for line in known)
    if not _contains(paths.known_hosts, lines):
        write_atomic(paths.known_hosts, lines)


def _contains(path: Path, content: bytes) -> bool:
    try:
        return read_bounded(path) == content
    except (FileNotFoundError, FileTooLargeError):
        return False


def _ensure(path: Path) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if os.path.lexists(path):
        return _load(path)
    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_atomic(path, content)
    return key


def _load(path: Path) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    command = shlex.join(["mv", str(path), f"{path}.broken"])
    hint = f"{command} && {command_for('restart', path.parent.name)}"  # which creates a new key
    try:
        key = serialization.load_ssh_private_key(read_bounded(path), password=None)
    except (NotRegularFileError, FileTooLargeError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise B2dError(f"{path} is not a usable key: {reason}", hint=hint) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise B2dError(f"{path} is not an Ed25519 key", hint=hint)
    return key


def _public_line(key: "Ed25519PrivateKey", comment: str) -> bytes:
    from cryptography.hazmat.primitives import serialization

    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return line + (f" {comment}".encode() if comment else b"") + b"\n"
