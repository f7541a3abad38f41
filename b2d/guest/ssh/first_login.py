"""Log in to a guest that was given no keys: boot2docker's own image, and those that people built on it."""

import shlex
from typing import TYPE_CHECKING

from b2d.errors import B2dError, InvalidStateError
from b2d.guest.base import USER, Dial, Guest
from b2d.guest.ssh.connection import CONNECT_S, authenticate, check_host_key, connect_with, read_key
from b2d.guest.ssh.keys import is_known, pin_host
from b2d.host.files import is_regular, read_bounded
from b2d.models import Endpoint
from b2d.paths import MachinePaths

if TYPE_CHECKING:
    from paramiko import Transport

PASSWORD = "tcuser"  # of every boot2docker
COMMAND_S = 60.0
# /home/docker is made anew at each boot, from this archive on the data disk
ARCHIVE = "/var/lib/boot2docker/userdata.tar"
AUTHORIZE = """\
set -e; key={key}; keys=.ssh/authorized_keys
mkdir -p -m 700 .ssh; grep -qxF "$key" $keys 2>/dev/null || echo "$key" >>$keys; chmod 600 $keys
work=$(mktemp -d); cd "$work"
if sudo test -s {archive}; then sudo cat {archive} | tar -xf -; fi
mkdir -p -m 700 .ssh; grep -qxF "$key" $keys 2>/dev/null || echo "$key" >>$keys
tar -cf - .ssh $(ls -A | grep -vxF .ssh) | sudo tee {archive}.new >/dev/null; sudo mv {archive}.new {archive}
cd /; rm -rf "$work"
"""


def connect(
    endpoint: Endpoint, paths: MachinePaths, dial: Dial | None = None, greeting_s: float = CONNECT_S
) -> "Transport":
    """Connect by the machine's key, else by boot2docker's password, and record the host key of the first guest.

    The caller knows that this machine's hypervisor opened the port. The server has `greeting_s` seconds to greet.
    Raises what connection.connect raises, and InvalidStateError for a guest that refuses both.
    """
    from paramiko import AuthenticationException

    key = read_key(paths)

    def log_in_by_password(transport: "Transport") -> None:
        try:
            authenticate(transport, lambda: transport.auth_password(USER, PASSWORD))
        except AuthenticationException as error:
            message = f"the guest accepts neither the machine's key nor the password {PASSWORD} of its user {USER}"
            hint = f"add {paths.ssh_public_key} to /home/{USER}/.ssh/authorized_keys in the guest"
            raise InvalidStateError(message, hint=hint, details=str(error)) from error

    def log_in(transport: "Transport") -> None:
        host_key = transport.get_remote_server_key()
        if is_regular(paths.pinned_host_key):
            check_host_key(endpoint, paths, host_key)
        try:
            authenticate(transport, lambda: transport.auth_publickey(USER, key))
        except AuthenticationException:
            log_in_by_password(transport)
        if not is_known(paths, host_key):
            pin_host(paths, host_key)

    return connect_with(log_in, endpoint, paths, dial, 0.0, greeting_s)


def authorize_key(guest: Guest, paths: MachinePaths) -> None:
    """Have the guest admit the machine's key, now and after its next boots. Raises B2dError."""
    key = read_bounded(paths.ssh_public_key).decode().strip()
    result = guest.run(AUTHORIZE.format(key=shlex.quote(key), archive=ARCHIVE), COMMAND_S)
    if result.exit_code != 0:
        reason = result.stderr.decode(errors="replace").strip()
        raise B2dError(f"the guest does not store the key {paths.ssh_public_key}: {reason}")
