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
from b2d.machine.boot_preparation import last_network, tls_files
from b2d.machine.foreign_disk import enlarge_partition
from b2d.machine_names import command_for
from b2d.models import MachineSpec
from b2d.network import port_allocation
from b2d.paths import MachinePaths

FOLDER = "/var/lib/boot2docker"  # on the data disk
CA, SERVER, SERVER_KEY = "tls/b2d-ca.pem", "tls/b2d-server.pem", "tls/b2d-server-key.pem"
AUTHORITIES = "certs/b2d.pem"  # at each boot the guest trusts all that is in this folder
FILES = (CA, SERVER, SERVER_KEY, AUTHORITIES)  # all that b2d writes beside the profile
API_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})")
BEGIN, END = "# b2d: begin", "# b2d: end"  # around b2d's lines in the profile
MARK = "profile:"  # between the other lines and the profile
PROFILE_LIMIT = 64 << 10  # bytes
COMMAND_S, RESTART_S = 60.0, 120.0
GREETING_S = 60.0  # for the SSH server of a guest whose Docker answers
# DOCKER_TLS: before 18.09 every other word than `auto` is passed to dockerd. DOCKER_REMOTE: since then dockerd listens
# on TCP only if it is set.
TLS = f"""\
DOCKER_TLS=auto
DOCKER_REMOTE=yes
CACERT={FOLDER}/{CA}
SERVERCERT={FOLDER}/{SERVER}
SERVERKEY={FOLDER}/{SERVER_KEY}
"""
LOOK = """\
grep -qxF {key} .ssh/authorized_keys && echo authorized
sudo /etc/init.d/docker status >/dev/null 2>&1 && echo started
cd {folder} && sudo sha256sum {files} 2>/dev/null
echo {mark}
sudo head -c {limit} profile 2>/dev/null
"""
RESTART = "sudo /etc/init.d/docker restart </dev/null"
TRUST = f"sudo sh -c 'cat {FOLDER}/{AUTHORITIES} >>/etc/ssl/certs/ca-certificates.crt'"


class _Content(NamedTuple):
    """What a guest has."""

    authorized: bool
    started: bool
    hashes: Mapping[str, str]  # of those of FILES that exist
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
    with closing(reach(services, driver, paths, greeting_s)) as guest:
        if not set_up(guest, spec, paths):
            return False
        enlarge_partition(guest, spec, services.reporter)
    return True


def reach(services: MachineServices, driver: Driver, paths: MachinePaths, greeting_s: float = GREETING_S) -> Guest:
    """Return the guest of a machine whose image is another project's. Raises B2dError."""
    dial = driver.dial if isinstance(driver, DialsGuest) else None
    if dial is None:
        require_own_port(driver)
    return services.unknown_guest(driver.endpoint(), paths, dial, greeting_s)


def report_limits(services: MachineServices, spec: MachineSpec, paths: MachinePaths, api_version: str) -> None:
    """Say what another project's image makes impossible, and what to do."""
    if not is_foreign(spec, services.images):
        return
    if "dns" in last_network(paths):
        services.reporter.warn(f"dns has no effect in {spec.name}: the guest asks the name servers of this host")
    version = API_VERSION.fullmatch(api_version)
    if version is not None and (int(version[1]), int(version[2])) < STRICT_API:
        services.reporter.note(
            f"{spec.name} has Docker API {api_version}, which docker clients since 29 refuse, and the certificate "
            f"authorities of its time: use a client up to 28, or b2d's own image: "
            f"{command_for('upgrade --image debian', spec.name)}"
        )


def set_up(guest: Guest, spec: MachineSpec, paths: MachinePaths) -> bool:
    """Have the guest admit the machine's key, and its Docker use the machine's certificates and network settings.

    Returns False where Docker has not started yet: it creates certificates before its first start, which must not be
    replaced meanwhile. Changes nothing that is as it should be. Raises B2dError.
    """
    present = _look(guest, paths)
    if not present.authorized:
        authorize_key(guest, paths)
    network = last_network(paths)
    files = _certificates(spec, paths, network)
    profile = with_block(present.profile, profile_block(network))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if profile == present.profile and hashes == present.hashes:
        return True
    if not present.started:
        return False
    if unwanted := present.hashes.keys() - hashes.keys():
        _check(guest, f"cd {FOLDER} && sudo rm -f {' '.join(unwanted)}", COMMAND_S)
    _write(guest, files | {"profile": profile.encode("utf-8", "surrogateescape")})
    if AUTHORITIES in hashes and hashes[AUTHORITIES] != present.hashes.get(AUTHORITIES):
        _check(guest, TRUST, COMMAND_S)
    _check(guest, RESTART, RESTART_S)
    return True


def require_own_port(driver: Driver) -> None:
    """Raise B2dError unless the machine's own process listens on its SSH port: the host key there will be trusted."""
    endpoint, process = driver.endpoint(), driver.process()
    place = (endpoint.address, endpoint.ssh_port)
    if process is None or port_allocation.listening_process(*place) != process.pid:
        holder = port_allocation.port_holder(*place)
        raise B2dError(f"{holder}, and not the machine, listens at {endpoint.address}:{endpoint.ssh_port}")


def profile_block(network: Mapping[str, bytes]) -> str:
    """Return b2d's lines in the profile: Docker's certificates, the proxies, and its arguments for registries."""
    flags = [line.partition(" ")[2] for line in network.get("registries", b"").decode().splitlines()]
    arguments = f'EXTRA_ARGS="$EXTRA_ARGS "{shlex.quote(" ".join(flags))}\n' if flags else ""
    return f"{BEGIN}\n{TLS}{network.get('proxies', b'').decode()}{arguments}{END}\n"


def with_block(profile: str, block: str) -> str:
    """Return a profile with b2d's lines at its end, and once."""
    before, begin, rest = profile.partition(f"{BEGIN}\n")
    if begin:
        profile = before + rest.partition(f"{END}\n")[2]
    if profile and not profile.endswith("\n"):
        profile += "\n"
    return profile + block


def _look(guest: Guest, paths: MachinePaths) -> _Content:
    key = read_bounded(paths.ssh_public_key).decode().strip()
    command = LOOK.format(
        key=shlex.quote(key), folder=FOLDER, files=" ".join(FILES), mark=MARK, limit=PROFILE_LIMIT + 1
    )
    result = guest.run(command, COMMAND_S)
    head, _, profile = result.stdout.decode("utf-8", "surrogateescape").partition(f"{MARK}\n")
    if len(profile) > PROFILE_LIMIT:
        raise B2dError(f"{FOLDER}/profile in the guest is larger than {PROFILE_LIMIT} bytes")
    lines = head.splitlines()
    hashes = {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name in FILES}
    return _Content("authorized" in lines, "started" in lines, hashes, profile)


def _certificates(spec: MachineSpec, paths: MachinePaths, network: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the certificates and the key of dockerd, and the authorities, by their path in the guest's folder."""
    tls = tls_files(spec, paths)
    files = {CA: tls.ca, SERVER: tls.server, SERVER_KEY: tls.server_key}
    return files | ({AUTHORITIES: network["authorities"]} if "authorities" in network else {})


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
