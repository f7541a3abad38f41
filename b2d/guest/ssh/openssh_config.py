"""What OpenSSH's programs are told of a machine: a block for ~/.ssh/config (ssh_config(5))."""

from b2d.guest.ssh.keys import host_alias
from b2d.paths import MachinePaths

USER = "docker"


def config_block(host: str, address: str, port: int, paths: MachinePaths) -> str:
    """The lines for `ssh host`; nothing of a person's own keys and agents is used, and the guest is known already."""
    lines = [
        f"HostName {address}",
        f"Port {port}",
        f"User {USER}",
        f"IdentityFile {_quoted(str(paths.ssh_key))}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f"HostKeyAlias {host_alias(paths)}",
        f"UserKnownHostsFile {_quoted(str(paths.known_hosts))}",
        "StrictHostKeyChecking yes",
    ]
    return "\n    ".join([f"Host {host}", *lines]) + "\n"


def _quoted(path: str) -> str:
    """As one word, with nothing in it that OpenSSH would replace; it knows escapes since 8.7."""
    plain = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{plain}"'
