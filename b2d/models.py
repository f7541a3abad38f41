"""The data model: plain values that all packages use. No I/O, no imports but the standard library."""

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

GUEST_SSH_PORT = 22
GUEST_DOCKER_PORT = 2376
GUEST_DOCKER_PORT_NO_TLS = 2375
HARDWARE = 3  # the newest revision of machines' virtual hardware; a saved state resumes with its own revision
# further addresses of the guest in the hypervisor's network
GUEST_LOOPBACK_ADDRESS, GUEST_UDP_ADDRESS = "10.0.2.127", "10.0.2.128"


class MachineState(StrEnum):
    """The state of a machine as the hypervisor reports it, never from files; *absent* is a state like the others."""

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


class MachineSpec(NamedTuple):
    """The specification of a machine: the content of machine.json, and all that a driver needs."""

    name: str
    driver: str  # "qemu" or "virtualbox"
    source: str  # the image source that it follows: "debian", "boot2docker", a URL or a file
    image: str  # sha256 of the ISO to boot, in hexadecimal
    memory_mib: int
    cpus: int
    disk_mib: int
    address: str  # the loopback address of the forwarded ports; "": chosen when the machine is created
    ssh_port: int  # on this host
    docker_port: int  # on this host
    tls: bool = True  # False: docker_port serves Docker without TLS, to this user only
    restrict: bool = False  # True: the guest has no network access
    folders: tuple[str, ...] = ()  # of this host, shared since the last boot; in the syntax of guest/folder_paths.py
    previous: str = ""  # the last image before `image` that started; "" for none
    previous_source: str = ""  # the source of `previous`, if it is another one
    refused: str = ""  # the image that `up` must not use: it failed, or was rolled back
    share: tuple[str, ...] = ()  # the setting `share`, from which `folders` follow at each boot; () for older machines
    trial: bool = False  # True: the machine has not started with `image` yet
    # on this host: forwards to dockerd, with TLS, when docker_port is the agent's; 0: docker_port does
    engine_port: int = 0
    hardware: int = 1  # the hardware revision of the last boot, as HARDWARE counts them

    @property
    def guarded(self) -> bool:
        """True if only the agent connects to the guest's SSH server, and dockerd always requires TLS."""
        return self.hardware >= 2

    @property
    def has_control_port(self) -> bool:
        """True if the machine has a control port even without folders, and a counter of its copies (vmgenid)."""
        return self.hardware >= 3

    @property
    def guest_docker_port(self) -> int:
        """The port of dockerd in the guest."""
        return GUEST_DOCKER_PORT if self.tls or self.guarded else GUEST_DOCKER_PORT_NO_TLS

    @property
    def forwarded_docker_port(self) -> int:
        """The port of this host that the hypervisor forwards to dockerd."""
        return self.engine_port or self.docker_port


class Access(NamedTuple):
    """Access to and from the guest, beyond what every guest allows."""

    ssh_password: bool = False  # True: sshd accepts the user's password too
    password: str = ""  # of the user docker; "": tcuser, as in boot2docker
    host_loopback: bool = True  # False: containers cannot reach services on this host's loopback


class Endpoint(NamedTuple):
    """The address and ports that the hypervisor forwards to a running machine; `docker_port` to dockerd itself."""

    address: str
    ssh_port: int
    docker_port: int


class Forward(NamedTuple):
    """A port of this host that is forwarded to the guest's port of the same number."""

    protocol: str  # "tcp" or "udp"
    address: str  # on this host
    port: int
    inward: bool = False  # True: to a port on the guest's own loopback

    @property
    def inside(self) -> str:
        """The guest's target address, "" for its first; the others are those of iso/rootfs/etc/b2d/dhcp.

        One is redirected to the guest's own loopback. The other is for UDP, as the hypervisors' networks tell the
        replies of two ports apart only by the guest's address (slirp; seen on QEMU 7.2).
        """
        if self.inward:
            return GUEST_LOOPBACK_ADDRESS
        return GUEST_UDP_ADDRESS if self.protocol == "udp" and self.address == "127.0.0.1" else ""


class DockerEnv(NamedTuple):
    """The environment of a docker client: boot2docker's three variables. An empty `cert_path` means no TLS."""

    host: str
    cert_path: str = ""

    def variables(self) -> dict[str, str]:
        """Return the variables to set, in the order in which they are printed."""
        if not self.cert_path:
            return {"DOCKER_HOST": self.host}
        return {"DOCKER_HOST": self.host, "DOCKER_CERT_PATH": self.cert_path, "DOCKER_TLS_VERIFY": "1"}


class Snapshot(NamedTuple):
    """A snapshot of a machine's data disk."""

    name: str
    taken_s: int  # since 1970
    size: int  # approximate bytes on this host, some of which the disk or other snapshots share


class Extent(NamedTuple):
    """The extent of a file inside the ISO, in bytes, so that a hypervisor can be given that part only."""

    offset: int
    size: int


class SuiteState(StrEnum):
    """The freshness of a suite's index when an image was built."""

    CURRENT = "current"
    EXPIRED = "expired"
    OLDER = "older"  # than an index known before
    MISSING = "missing"


class Suite(NamedTuple):
    """A suite of Debian's archive in the state from which an image was built."""

    name: str  # its codename, such as trixie-security
    date: str  # of its index, ISO 8601 in UTC; "" if missing
    state: SuiteState


class Image(NamedTuple):
    """A stored ISO, and how to boot it without a boot loader, if known."""

    sha256: str
    iso: Path
    source: str  # "debian", "boot2docker", a URL or a file, as requested
    version: str  # from the volume label or the manifest
    size: int  # bytes
    kernel: Path | None = None  # an ELF vmlinux (PVH) or a bzImage; None: boot the ISO itself
    initrd: Path | None = None
    kernel_arguments: str = ""
    stored: Path | None = None  # the same ISO with nothing in it compressed
    root: Extent | None = None  # the squashfs in `medium`
    suites: tuple[Suite, ...] = ()  # from which it was built, if known
    system: str = ""  # hash of all that a guest boots, which images of different descriptions may share

    @property
    def medium(self) -> Path:
        """The ISO to attach to a machine."""
        return self.stored or self.iso

    @property
    def date(self) -> str:
        """The date of the suites from which it was built, YYYY-MM-DD; "" if unknown."""
        return max((suite.date for suite in self.suites), default="")[:10]

    @property
    def lacks(self) -> tuple[str, ...]:
        """The suites whose newest packages it may lack, each with the reason."""
        return tuple(f"{suite.name} {suite.state}" for suite in self.suites if suite.state != SuiteState.CURRENT)

    @property
    def boots_directly(self) -> bool:
        """True if a hypervisor can load the kernel itself."""
        return self.kernel is not None and self.initrd is not None and self.root is not None


class CommandResult(NamedTuple):
    """The result of a program, on this host or in the guest."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class ProcessIdentity(NamedTuple):
    """The identity of a process: a pid alone may have been reused for another."""

    pid: int
    start_time: str  # opaque, as process_identity.py reads it; equal only for the same process
    boot_id: str  # of this host
