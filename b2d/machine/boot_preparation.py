"""Prepare a boot: the newest image, free ports, keys, certificates and the seed disk."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from b2d.errors import B2dError
from b2d.guest import folder_paths, seed, tls_certificates
from b2d.guest.ssh import keys
from b2d.host.files import is_regular, os_errors_as_b2d_errors, private_folder, read_bounded, write_atomic
from b2d.image import version_label
from b2d.image.base import ImageLookup
from b2d.machine_names import command_for
from b2d.machine_store.store import MachineStore
from b2d.models import GUEST_DOCKER_PORT, HARDWARE, Access, Image, MachineSpec, MachineState
from b2d.network import port_allocation
from b2d.paths import MachinePaths
from b2d.reporting.base import Reporter

AUFS_HINT = "save the data with docker save and docker export, then: b2d up --vm NEW"


def ensure_ssh_keys(paths: MachinePaths) -> str:
    """Create the machine's folder and keys where they are missing; return the public key that may log in."""
    with os_errors_as_b2d_errors(paths.folder):
        private_folder(paths.folder)
        keys.ensure_client(paths)
        keys.ensure_host(paths)
        return read_bounded(paths.ssh_public_key).decode()


def store_new_spec(spec: MachineSpec, store: MachineStore) -> MachineSpec:
    """Store the spec of a new machine, with a free address unless it has one: two may be created at once."""
    with store.allocation_lock():
        if not spec.address:
            taken = {other.address for other in store.neighbours(spec.name)}
            spec = spec._replace(address=port_allocation.pick_address(taken, (spec.ssh_port, spec.docker_port)))
        store.write(spec)
    return spec


def current_image(spec: MachineSpec, images: ImageLookup, reporter: Reporter) -> MachineSpec:
    """Return the spec with the newest stored image of its source, verified. Raises B2dError when none is stored."""
    image = pending_image(spec, images)
    if image is not None and version_label.loses_aufs_data(_version(spec, images), image.version):
        reporter.warn(f"{aufs_refusal(spec.name, image.version)}: this image is not used")
        image = None
    if image is None:
        images.verify(images.get(spec.image))
        return spec
    images.verify(image)
    reporter.note(f"{spec.name} starts with the newer image {image.version}; its disk is unchanged")
    return with_trial_image(spec, image)


def pending_image(spec: MachineSpec, images: ImageLookup) -> Image | None:
    """Return the newer image that the machine would boot next; None when it has it, or was rolled back from it."""
    newest = images.find(spec.source)
    return newest if newest is not None and newest.sha256 not in (spec.image, spec.refused) else None


def with_trial_image(spec: MachineSpec, image: Image, source: str = "") -> MachineSpec:
    """Return the spec with that image on trial, and its source; `previous` is the last one that it came up with."""
    new = spec._replace(source=source or spec.source, refused="", trial=True)
    if image.sha256 == spec.image:
        return new
    proven = spec.previous if spec.trial else spec.image
    proven_source = spec.previous_source if spec.trial else spec.source
    if proven in ("", image.sha256):
        return new._replace(image=image.sha256, previous="", previous_source="")
    other = "" if proven_source == new.source else proven_source
    return new._replace(image=image.sha256, previous=proven, previous_source=other)


def aufs_refusal(name: str, version: str) -> str:
    """Return why a machine of boot2docker before 18.09 cannot use the image."""
    return f"{name} stores its containers and images in AUFS, which the image {version} cannot read"


def _version(spec: MachineSpec, images: ImageLookup) -> str:
    try:
        return images.get(spec.image).version
    except B2dError:
        return ""  # the image is no longer stored


def with_current_hardware(spec: MachineSpec) -> MachineSpec:
    """Return the spec with the current hardware; a machine that resumes keeps the hardware that it was saved with."""
    return spec._replace(hardware=HARDWARE)


def shared_folders(spec: MachineSpec, b2d_home: Path, state: MachineState, reporter: Reporter) -> MachineSpec:
    """Return the spec with the folders that its setting selects now; a saved machine keeps its own."""
    if not spec.share and not spec.folders:
        return spec
    from b2d.guest import share_policy

    whole = [
        folder.host
        for folder in map(folder_paths.parse, spec.folders)
        if not spec.share and share_policy.is_home(folder.host)
    ]
    if state == MachineState.SAVED:
        for home in whole:
            reporter.warn(
                f"{spec.name} was saved while all of {home} was shared; "
                f"to share only its visible folders: {command_for('restart', spec.name)}"
            )
        return spec
    share = spec.share or share_policy.from_older_share(spec.folders)
    for home in whole:
        reporter.note(f"{spec.name} shares only the visible folders in {home} from now on: docs/folders.md")
    selection = share_policy.select(share, b2d_home)
    for sentence in selection.left_out:
        reporter.warn(sentence)
    return spec._replace(share=share, folders=selection.folders)


def free_ports(spec: MachineSpec, neighbours: Sequence[MachineSpec], reporter: Reporter) -> MachineSpec:
    """Return the spec with ports that can be opened now; replace those in use, with a note."""
    same_address = [other for other in neighbours if other.address == spec.address]
    avoid = {port for other in same_address for port in (other.ssh_port, other.docker_port, other.engine_port)}
    ssh_port = port_allocation.reserve_ports(spec.address, spec.ssh_port, avoid | {spec.docker_port})
    docker_port = port_allocation.reserve_ports(spec.address, spec.docker_port, avoid | {ssh_port})
    for service, old, new in (("ssh", spec.ssh_port, ssh_port), ("docker", spec.docker_port, docker_port)):
        if old != new:
            reporter.note(f"port {old} of {spec.address} is in use: the {service} port of {spec.name} is now {new}")
    if spec.tls or not spec.guarded:
        return spec._replace(ssh_port=ssh_port, docker_port=docker_port, engine_port=0)
    wanted = spec.engine_port or GUEST_DOCKER_PORT
    engine_port = port_allocation.reserve_ports(spec.address, wanted, avoid | {ssh_port, docker_port})
    return spec._replace(ssh_port=ssh_port, docker_port=docker_port, engine_port=engine_port)


def network(
    spec: MachineSpec, paths: MachinePaths, wanted: Mapping[str, bytes], state: MachineState, reporter: Reporter
) -> Mapping[str, bytes]:
    """Return the network files for the guest: `wanted`, or for a saved machine those it was saved with."""
    if state != MachineState.SAVED:
        return wanted
    known = last_network(paths)
    if known != wanted:
        reporter.note(
            f"{spec.name} keeps the network settings that it was saved with; "
            f"to apply the current ones: {command_for('restart', spec.name)}"
        )
    return known


def last_network(paths: MachinePaths) -> dict[str, bytes]:
    """Return the network files of the current seed disk."""
    with os_errors_as_b2d_errors(paths.seed):
        return seed.network(read_bounded(paths.seed)) if is_regular(paths.seed) else {}


def access_of(paths: MachinePaths, unknown: Access) -> Access:
    """Return who may log in according to the current seed disk; `unknown` if there is none."""
    with os_errors_as_b2d_errors(paths.seed):
        return (seed.access(read_bounded(paths.seed)) if is_regular(paths.seed) else None) or unknown


def credentials(
    spec: MachineSpec, paths: MachinePaths, access: Access, network: Mapping[str, bytes] = MappingProxyType({})
) -> None:
    """Create the keys and certificates that are missing or expire soon, and write the seed disk with them.

    Also for a saved machine: a state that cannot be resumed is booted.
    """
    public_key = ensure_ssh_keys(paths)
    with os_errors_as_b2d_errors(paths.folder):
        content = seed.image(
            seed.Seed(
                hostname=hostname(spec.name),
                authorized_keys=public_key,
                host_key=read_bounded(paths.host_key),
                tls=tls_files(spec, paths) if spec.tls or spec.guarded else None,
                access=access,
                folders=[folder_paths.parse(folder) for folder in spec.folders],
                network=network,
            )
        )
        write_atomic(paths.seed, content)


def tls_files(spec: MachineSpec, paths: MachinePaths) -> seed.TlsFiles:
    """Return what dockerd needs for TLS, created or renewed where that is due."""
    tls_certificates.ensure_certificates(paths, [spec.address], datetime.now(UTC))
    return seed.TlsFiles(
        ca=read_bounded(paths.certs / "ca.pem"),
        server=read_bounded(paths.authority / "server.pem"),
        server_key=read_bounded(paths.authority / "server-key.pem"),
    )


def hostname(name: str) -> str:
    """Return the guest's host name: boot2docker for the default machine, as its prompt always showed."""
    return "".join(sign if sign.isalnum() else "-" for sign in name.removesuffix("-vm")).strip("-").lower()
