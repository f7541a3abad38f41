"""What a machine must have before it boots: the newest image, free ports, keys, certificates and its seed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from b2d import address, certs, folders, keys, seed
from b2d.files import private_folder, refusals_told, write_whole
from b2d.layout import MachinePaths
from b2d.model import Image, MachineSpec
from b2d.ports import KeptImages, Reporter


def first_keys(paths: MachinePaths) -> str:
    """Make the machine's folder and keys, whichever are missing; return the public key to let in."""
    with refusals_told(paths.folder):
        private_folder(paths.folder)
        keys.ensure_client(paths)
        keys.ensure_host(paths)
        return paths.ssh_public_key.read_text()


def newest_image(spec: MachineSpec, images: KeptImages, reporter: Reporter) -> MachineSpec:
    """The spec with the newest kept image of its source, verified. Raises B2dError when none is kept."""
    image = waiting_image(spec, images)
    if image is None:
        images.verify(images.get(spec.image))
        return spec
    images.verify(image)
    reporter.note(f"{spec.name} takes up the newer image {image.version}; its disk stays as it is")
    return replace(spec, image=image.sha256)


def waiting_image(spec: MachineSpec, images: KeptImages) -> Image | None:
    """The image that the machine would take up at its next boot, None when it has it already."""
    newest = images.find(spec.source)
    return newest if newest is not None and newest.sha256 != spec.image else None


def free_ports(spec: MachineSpec, neighbours: Sequence[MachineSpec], reporter: Reporter) -> MachineSpec:
    """The spec with ports that can be opened now; another is leased, and a note says so, where one is taken."""
    here = [other for other in neighbours if other.address == spec.address]
    avoid = {port for other in here for port in (other.ssh_port, other.docker_port)}
    ssh_port = address.lease(spec.address, spec.ssh_port, avoid | {spec.docker_port})
    docker_port = address.lease(spec.address, spec.docker_port, avoid | {ssh_port})
    for what, old, new in (("ssh", spec.ssh_port, ssh_port), ("docker", spec.docker_port, docker_port)):
        if old != new:
            reporter.note(f"port {old} of {spec.address} is taken: {new} is the {what} port of {spec.name} now")
    return replace(spec, ssh_port=ssh_port, docker_port=docker_port)


def credentials(spec: MachineSpec, paths: MachinePaths, ssh_password: bool) -> None:
    """Make the keys and certificates that are missing or end soon, and write the seed disk with them."""
    public_key = first_keys(paths)
    with refusals_told(paths.folder):
        content = seed.image(
            seed.Seed(
                hostname=hostname(spec.name),
                authorized_keys=public_key,
                host_key=paths.host_key.read_bytes(),
                tls=_tls(spec, paths) if spec.tls else None,
                ssh_password=ssh_password,
                folders=[folders.parse(folder) for folder in spec.folders],
            )
        )
        write_whole(paths.seed, content)


def _tls(spec: MachineSpec, paths: MachinePaths) -> seed.TlsFiles:
    certs.ensure(paths, [spec.address], datetime.now(UTC))
    return seed.TlsFiles(
        ca=(paths.certs / "ca.pem").read_bytes(),
        server=(paths.authority / "server.pem").read_bytes(),
        server_key=(paths.authority / "server-key.pem").read_bytes(),
    )


def hostname(name: str) -> str:
    """The guest's own name: boot2docker for the default machine, as its prompt always said."""
    return "".join(sign if sign.isalnum() else "-" for sign in name.removesuffix("-vm")).strip("-").lower()
