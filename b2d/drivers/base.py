"""The interface of a hypervisor's driver, and the two abilities that only some drivers have."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import socket

from b2d.models import Endpoint, Forward, MachineSpec, MachineState, ProcessIdentity, Snapshot


class Driver(Protocol):
    """A hypervisor, bound to one machine's spec, image and folder.

    It asks the hypervisor each time, keeps no state of its own, and never waits for the guest, prints or sleeps.
    Every method may raise HypervisorError; foreign errors never leave it.
    """

    def check(self) -> None:
        """Raise HypervisorError, with what to install as its hint, unless a machine could start here."""

    def create(self, payload: bytes) -> None:
        """Create the machine and its data disk, which begins with `payload`. All or nothing."""

    def delete(self) -> None:
        """Remove the machine and its disk, whatever its state. Absent: nothing. Never removes the ISO."""

    def state(self) -> MachineState:
        """Return what the hypervisor says now. Never raises for an absent machine; true after any crash."""

    def start(self) -> None:
        """Boot, or resume from paused or saved. Returns once the hypervisor has begun.

        A saved state that this hypervisor cannot resume is discarded, and the machine boots; one of older hardware than
        today's does not: SavedStateError.
        """

    def stop(self) -> None:
        """Press the power button and return at once."""

    def kill(self) -> None:
        """Cut the power. Already off: nothing."""

    def save(self) -> None:
        """Write the state to disk and end the machine; on failure it runs on."""

    def endpoint(self) -> Endpoint:
        """Return where the running machine's ports really are. Raises InvalidStateError when it is not running."""

    def process(self) -> ProcessIdentity | None:
        """Return the machine's process on this host, or None when it has none."""

    def limitations(self) -> list[str]:
        """Return one line for each thing that start would do otherwise than the spec says, with its reason."""

    def effective_spec(self) -> MachineSpec | None:
        """Return the spec with the memory and CPUs of the machine that is on; None when it is off.

        The spec may ask for more since it was started, or for what could not be had.
        """

    def console(self) -> str:
        """Return what the guest wrote on its serial console since the last start, undecodable bytes replaced."""

    def screenshot(self) -> bytes:
        """Return the screen as a PNG. Raises InvalidStateError when the machine is not running."""

    def move_clock(self, seconds: int) -> None:
        """Move the guest's clock and its clock chip without a connection to the guest.

        Raises B2dError unless the guest confirms it, as one without a control port does not.
        """

    def disk_mib(self) -> int:
        """Return the size of the data disk in MiB; 0 when there is none."""

    def grow_disk(self, size_mib: int) -> None:
        """Enlarge the data disk; nobody makes it smaller. Raises InvalidStateError unless the machine is off."""

    @property
    def trims(self) -> bool:
        """Whether what a running guest discards is given back at once; else only blocks of zeros, by compact_disk."""

    def disk_room(self) -> int:
        """Return how many bytes of this host the data disk takes, with its snapshots."""

    def compact_disk(self) -> None:
        """Give back blocks of zeros. Raises InvalidStateError for a machine that is not off, or has snapshots."""

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots of the data disk, the oldest first. Memory is in none of them."""

    def take_snapshot(self, name: str) -> None:
        """Keep the data disk as it is now, all or nothing. The caller has looked whether the name is free.

        Of a machine that runs, and runs on, it is as after a power cut.
        """

    def restore_snapshot(self, name: str) -> None:
        """Make the disk what it was then, and discard a saved state. Raises InvalidStateError for one that is on."""

    def delete_snapshot(self, name: str) -> None:
        """Forget a snapshot; the disk and all others stay as they are, whatever the machine does."""

    def forwards(self) -> list[Forward]:
        """Return the ports that lead into the running machine now, but for its own two.

        This and the next three raise InvalidStateError for a machine that does not run.
        """

    def forward_obstacle(self, forward: Forward) -> str:
        """Return why a port could never be forwarded; "" where it could."""

    def add_forward(self, forward: Forward) -> None:
        """Forward a port of this host into the machine. Raises HypervisorError for one that cannot be had."""

    def remove_forward(self, forward: Forward) -> None:
        """Stop forwarding a port. Raises HypervisorError where it is not forwarded."""


@runtime_checkable
class DialsGuest(Protocol):
    """A driver that connects to ports of the guest that no forward leads to."""

    def dial(self, port: int, timeout_s: float) -> "socket.socket":
        """Return a connection to a TCP port of the running guest. Raises InvalidStateError, B2dError and OSError."""


@runtime_checkable
class MountsFolders(Protocol):
    """A driver whose machine cannot be saved while its guest has mounted folders of this host."""

    def unmount_folders(self) -> None:
        """Have the guest unmount all of them. Raises InvalidStateError where something in it uses one."""

    def mount_folders(self) -> list[str]:
        """Have the guest mount those again that it lacks; return the paths of those that it cannot have."""
