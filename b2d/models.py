"""The nouns: plain values that everything else is written in. No I/O, no imports but the standard library."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

GUEST_SSH_PORT = 22
GUEST_DOCKER_PORT = 2376
GUEST_DOCKER_PORT_NO_TLS = 2375
HARDWARE = 2  # the newest revision of what a machine is made of; a saved state resumes with the one it was saved with
INWARD, SECOND = "10.0.2.127", "10.0.2.128"  # further addresses of the guest in the hypervisor's network


class MachineState(StrEnum):
    """What the hypervisor says of a machine. Files never decide it; *absent* is a state like the others."""

    ABSENT = "absent"
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SAVED = "saved"
    STOPPING = "stopping"
    CRASHED = "crashed"


STARTED_STATES = frozenset({MachineState.STARTING, MachineState.RUNNING})
ON_STATES = STARTED_STATES | {MachineState.PAUSED, MachineState.STOPPING}
OFF_STATES = frozenset({MachineState.STOPPED, MachineState.CRASHED, MachineState.ABSENT})
SUSPENDED_STATES = frozenset({MachineState.SAVED, MachineState.PAUSED})


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine should look like: all that is kept of it in machine.json, and all that a driver needs."""

    name: str
    driver: str  # "qemu" or "virtualbox"
    source: str  # which image it follows: "debian", "boot2docker", a URL or a file
    image: str  # sha256 of the ISO that it boots, in hexadecimal
    memory_mib: int
    cpus: int
    disk_mib: int
    address: str  # the loopback address that the machine's ports are forwarded on; "": to be chosen when it is made
    ssh_port: int  # on the host
    docker_port: int  # on the host
    tls: bool = True  # False: on docker_port Docker is spoken to without TLS, by this person alone
    restrict: bool = False  # True: the guest reaches nothing outside itself
    folders: tuple[str, ...] = ()  # of this host, which the guest has had since its last boot; as folders.py reads them
    previous: str = ""  # the image that it came up with before `image`; "" where there is none
    refused: str = ""  # the image that `up` is not to take up by itself: it failed, or somebody went back from it
    share: tuple[str, ...] = ()  # the setting of that name, which `folders` follow at each boot; () for older machines
    trial: bool = False  # whether the machine has not come up with `image` yet since it took that up
    engine_port: int = 0  # on the host: leads to dockerd, by TLS, where docker_port is the agent's; 0: docker_port does
    hardware: int = 1  # the revision that it was booted with last, as HARDWARE counts them

    @property
    def guarded(self) -> bool:
        """True where the agent alone leads to the guest's SSH server, and dockerd wants TLS whatever the host does."""
        return self.hardware >= 2

    @property
    def guest_docker_port(self) -> int:
        """The port that dockerd listens on inside the guest."""
        return GUEST_DOCKER_PORT if self.tls or self.guarded else GUEST_DOCKER_PORT_NO_TLS

    @property
    def forwarded_docker_port(self) -> int:
        """The port on the host that the hypervisor leads to dockerd."""
        return self.engine_port or self.docker_port


@dataclass(frozen=True, slots=True)
class Access:
    """Who may come into the guest, and where it may go, beyond what every guest allows."""

    ssh_password: bool = False  # True: sshd takes the user's password too
    password: str = ""  # of the user docker; "": tcuser, as in 2014
    host_loopback: bool = True  # False: containers do not reach what listens on this host's loopback


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the hypervisor leads into a running machine; `docker_port` leads to dockerd itself."""

    address: str
    ssh_port: int
    docker_port: int


@dataclass(frozen=True, slots=True, order=True)
class Forward:
    """A port of this host that leads to the guest's port of the same number."""

    protocol: str  # "tcp" or "udp"
    address: str  # on this host
    port: int
    inward: bool = False  # True: the guest has it on its own loopback alone

    @property
    def inside(self) -> str:
        """The guest's address that it leads to, "" for its first; the others are those of iso/rootfs/etc/b2d/dhcp.

        One leads on to the guest's own loopback. One more is for UDP, as the hypervisors' networks tell the answers of
        two ports apart by the guest's address alone (slirp; seen on QEMU 7.2).
        """
        if self.inward:
            return INWARD
        return SECOND if self.protocol == "udp" and self.address == "127.0.0.1" else ""


@dataclass(frozen=True, slots=True)
class DockerEnv:
    """What a docker client needs: the three variables of 2014. An empty `cert_path` means no TLS."""

    host: str
    cert_path: str = ""

    def variables(self) -> dict[str, str]:
        """The variables to set, in the order in which they are printed."""
        if not self.cert_path:
            return {"DOCKER_HOST": self.host}
        return {"DOCKER_HOST": self.host, "DOCKER_CERT_PATH": self.cert_path, "DOCKER_TLS_VERIFY": "1"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a machine's data disk was at one moment."""

    name: str
    taken_s: int  # since 1970
    size: int  # bytes of it that lie on this host, about; some of them are the disk's too, or other snapshots'


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a file lies inside the ISO, so that a hypervisor can be given that part alone."""

    offset: int
    size: int


class SuiteState(StrEnum):
    """How recent the index of a suite was when an image was built."""

    CURRENT = "current"
    EXPIRED = "expired"
    OLDER = "older"  # than one that was seen before
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite of Debian's archive as an image was built from it."""

    name: str  # its codename, such as trixie-security
    date: str  # of its index, ISO 8601 in UTC; "" where it is missing
    state: SuiteState


@dataclass(frozen=True, slots=True)
class Image:
    """A kept ISO: what it is, and how to boot it without a boot loader where that is known."""

    sha256: str
    iso: Path
    source: str  # "debian", "boot2docker", a URL or a file, as it was asked for
    version: str  # what the volume label or the manifest says
    size: int  # bytes
    kernel: Path | None = None  # an ELF vmlinux (PVH) or a bzImage; None: boot the ISO itself
    initrd: Path | None = None
    kernel_arguments: str = ""
    stored: Path | None = None  # the same ISO with nothing in it compressed
    root: Extent | None = None  # the squashfs in `medium`
    suites: tuple[Suite, ...] = ()  # that it was built from, where it says so

    @property
    def medium(self) -> Path:
        """The ISO to give to a machine."""
        return self.stored or self.iso

    @property
    def date(self) -> str:
        """The date of what it was built from, YYYY-MM-DD; "" where it does not say so."""
        return max((suite.date for suite in self.suites), default="")[:10]

    @property
    def lacks(self) -> tuple[str, ...]:
        """The suites whose newest packages it may not have, each with the reason."""
        return tuple(f"{one.name} {one.state}" for one in self.suites if one.state != SuiteState.CURRENT)

    @property
    def boots_directly(self) -> bool:
        """True when a hypervisor can load the kernel itself."""
        return self.kernel is not None and self.initrd is not None and self.root is not None


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a program ended, here or in the guest."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for another: a pid alone may have been given to a new one."""

    pid: int
    start_time: str  # opaque, as identity.py reads it; equal only for the same process
    boot_id: str  # of this host
