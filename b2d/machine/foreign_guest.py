"""Set up a guest that reads no seed disk: boot2docker's own image, and those that people built on it.

Its paths, and the variables of its profile, are those of files/init.d/docker in github.com/boot2docker/boot2docker.
"""

import hashlib
import re
import shlex
from collections.abc import Mapping
from contextlib import closing
from typing import NamedTuple

from b2d.docker.client import STRICT_API
from b2d.drivers.base import DialsGuest, Driver
from b2d.errors import B2dError
from b2d.guest import seed
from b2d.guest.base import Guest, StreamsCommands
from b2d.guest.ssh.first_login import authorize_key
from b2d.host.files import read_bounded
from b2d.image.base import ImageLookup
from b2d.machine.base import MachineServices
from b2d.machine.boot_preparation import tls_files
from b2d.machine_names import command_for
from b2d.models import MachineSpec
from b2d.network import port_allocation
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter

FOLDER = "/var/lib/boot2docker"  # on the data disk
CA, SERVER, SERVER_KEY = "tls/b2d-ca.pem", "tls/b2d-server.pem", "tls/b2d-server-key.pem"
API_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})")
BEGIN, END = "# b2d: begin", "# b2d: end"  # around b2d's lines in the profile
MARK = "profile:"  # between the other lines and the profile
PROFILE_LIMIT = 64 << 10  # bytes
COMMAND_S, RESTART_S = 60.0, 120.0
GREETING_S = 60.0  # for the SSH server of a guest whose Docker answers
# DOCKER_TLS: before 18.09 every other word than `auto` is passed to dockerd. DOCKER_REMOTE: since then dockerd listens
# on TCP only if it is set.
BLOCK = f"""\
{BEGIN}
DOCKER_TLS=auto
DOCKER_REMOTE=yes
CACERT={FOLDER}/{CA}
SERVERCERT={FOLDER}/{SERVER}
SERVERKEY={FOLDER}/{SERVER_KEY}
{END}
"""
LOOK = """\
grep -qxF {key} .ssh/authorized_keys && echo authorized
sudo /etc/init.d/docker status >/dev/null 2>&1 && echo started
cd {folder} && sudo sha256sum {files} 2>/dev/null
echo {mark}
sudo head -c {limit} profile 2>/dev/null
"""
RESTART = "sudo /etc/init.d/docker restart </dev/null"


class _Content(NamedTuple):
    """What a guest has."""

    authorized: bool
    started: bool
    hashes: frozenset[str]  # of the certificates
    profile: str


def is_foreign(spec: MachineSpec, images: ImageLookup) -> bool:
    """Return whether the machine's image is another project's, whose guest reads no seed disk."""
    try:
        return not images.get(spec.image).boots_directly
    except B2dError:
        return False  # the image is no longer stored


def meet(services: MachineServices, driver: Driver, spec: MachineSpec, paths: MachinePaths, greeting_s: float) -> bool:
    """Set up the guest of a machine that reports no stages, unless it is b2d's own; return False to be called again.

    Its SSH server has `greeting_s` seconds to greet. Raises B2dError.
    """
    if not is_foreign(spec, services.images):
        return True  # b2d's own, however long its first stage takes
    return set_up(reach(services, driver, paths, greeting_s), spec, paths)


def reach(services: MachineServices, driver: Driver, paths: MachinePaths, greeting_s: float = GREETING_S) -> Guest:
    """Return the guest of a machine whose image is another project's. Raises B2dError."""
    dial = driver.dial if isinstance(driver, DialsGuest) else None
    if dial is None:
        require_own_port(driver)
    return services.unknown_guest(driver.endpoint(), paths, dial, greeting_s)


def report_age(spec: MachineSpec, images: ImageLookup, api_version: str, reporter: Reporter) -> None:
    """Say what the age of another project's image makes impossible, and what to do."""
    version = API_VERSION.fullmatch(api_version)
    if version is not None and (int(version[1]), int(version[2])) < STRICT_API and is_foreign(spec, images):
        reporter.note(
            f"{spec.name} has Docker API {api_version}, which docker clients since 29 refuse, and the certificate "
            f"authorities of its time: use a client up to 28, or b2d's own image: "
            f"{command_for('upgrade --image debian', spec.name)}"
        )


def set_up(guest: Guest, spec: MachineSpec, paths: MachinePaths) -> bool:
    """Have the guest admit the machine's key, and its Docker use the machine's certificates.

    Returns False where Docker has not started yet: it creates certificates before its first start, which must not be
    replaced meanwhile. Changes nothing that is as it should be. Raises B2dError.
    """
    with closing(guest):
        present = _look(guest, paths)
        if not present.authorized:
            authorize_key(guest, paths)
        files = _certificates(spec, paths)
        profile = with_block(present.profile)
        hashes = {hashlib.sha256(content).hexdigest() for content in files.values()}
        if profile == present.profile and hashes <= present.hashes:
            return True
        if not present.started:
            return False
        _write(guest, files | {"profile": profile.encode("utf-8", "surrogateescape")})
        _check(guest, RESTART, RESTART_S)
    return True


def require_own_port(driver: Driver) -> None:
    """Raise B2dError unless the machine's own process listens on its SSH port: the host key there will be trusted."""
    endpoint, process = driver.endpoint(), driver.process()
    place = (endpoint.address, endpoint.ssh_port)
    if process is None or port_allocation.listening_process(*place) != process.pid:
        holder = port_allocation.port_holder(*place)
        raise B2dError(f"{holder}, and not the machine, listens at {endpoint.address}:{endpoint.ssh_port}")


def with_block(profile: str) -> str:
    """Return a profile with b2d's lines at its end, and once."""
    before, begin, rest = profile.partition(f"{BEGIN}\n")
    if begin:
        profile = before + rest.partition(f"{END}\n")[2]
    if profile and not profile.endswith("\n"):
        profile += "\n"
    return profile + BLOCK


def _look(guest: Guest, paths: MachinePaths) -> _Content:
    key = read_bounded(paths.ssh_public_key).decode().strip()
    names = " ".join((CA, SERVER, SERVER_KEY))
    command = LOOK.format(key=shlex.quote(key), folder=FOLDER, files=names, mark=MARK, limit=PROFILE_LIMIT + 1)
    result = guest.run(command, COMMAND_S)
    head, _, profile = result.stdout.decode("utf-8", "surrogateescape").partition(f"{MARK}\n")
    if len(profile) > PROFILE_LIMIT:
        raise B2dError(f"{FOLDER}/profile in the guest is larger than {PROFILE_LIMIT} bytes")
    lines = head.splitlines()
    hashes = frozenset(line.partition(" ")[0] for line in lines)
    return _Content("authorized" in lines, "started" in lines, hashes, profile)


def _certificates(spec: MachineSpec, paths: MachinePaths) -> dict[str, bytes]:
    """Return the certificates and the key of dockerd by their path in the guest's folder."""
    tls = tls_files(spec, paths)
    return {CA: tls.ca, SERVER: tls.server, SERVER_KEY: tls.server_key}


def _write(guest: Guest, files: Mapping[str, bytes]) -> None:
    """Write files into the guest's folder, readable for root only. Raises B2dError."""
    assert isinstance(guest, StreamsCommands)
    content = seed.archive(files)
    with guest.piped(f"sudo tar -xf - -C {FOLDER}") as pipe:
        pipe.write(content)
        result = pipe.end()
    if result.exit_code != 0:
        raise B2dError(f"the guest cannot store its certificates: {result.stderr.decode(errors='replace').strip()}")


def _check(guest: Guest, command: str, timeout_s: float) -> None:
    result = guest.run(command, timeout_s)
    if result.exit_code != 0:
        reason = result.stderr.decode(errors="replace").strip()
        raise B2dError(f"{command} in the guest: {reason or f'exit code {result.exit_code}'}")
