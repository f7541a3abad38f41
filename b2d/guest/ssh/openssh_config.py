"""A machine's block for OpenSSH's ~/.ssh/config (ssh_config(5))."""

from b2d.guest.base import USER
from b2d.guest.ssh.keys import host_alias
from b2d.paths import MachinePaths


def config_block(host: str, address: str, port: int, paths: MachinePaths) -> str:
    """Return the block for `ssh host`; it uses none of the user's keys and agents, and the known host key."""
    lines = [
        f"HostName {address}",
        f"Port {port}",
        f"User {USER}",
        f"IdentityFile {_quote(str(paths.ssh_key))}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f"HostKeyAlias {host_alias(paths)}",
        f"UserKnownHostsFile {_quote(str(paths.known_hosts))}",
        "StrictHostKeyChecking yes",
    ]
    return "\n    ".join([f"Host {host}", *lines]) + "\n"


def _quote(path: str) -> str:
    """Return the path as one word without expansion by OpenSSH; it knows escapes since 8.7."""
    plain = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{plain}"'
