"""The interface of a hypervisor's driver, and what only some drivers can do."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import socket

from b2d.models import Endpoint, Forward, MachineSpec, MachineState, ProcessIdentity, Snapshot


class Driver(Protocol):
    """A hypervisor, bound to one machine's spec, image and directory.

    It asks the hypervisor each time, keeps no state of its own, and never waits for the guest, prints or sleeps.
    Every method may raise HypervisorError; foreign errors never leave it.
    """

    def check(self) -> None:
        """Raise HypervisorError, with what to install as its hint, unless a machine could start here."""

    def create(self, payload: bytes) -> None:
        """Make the machine and its data disk, which begins with `payload`. All or nothing."""

    def delete(self) -> None:
        """Remove the machine and its disk, whatever its state. Absent: nothing. Never removes the ISO."""

    def state(self) -> MachineState:
        """What the hypervisor says now. Never raises for an absent machine; true after any crash."""

    def start(self) -> None:
        """Boot, or go on from paused or saved. Returns once the hypervisor has begun.

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
        """Where the running machine's ports really are. Raises InvalidStateError when it is not running."""


@runtime_checkable
class HasProcess(Protocol):
    """A driver whose machine is one process on this host."""

    def process(self) -> ProcessIdentity | None:
        """The machine's process, or None when it has none."""


@runtime_checkable
class ReportsLimitations(Protocol):
    """A driver that cannot always give what was asked for."""

    def limitations(self) -> list[str]:
        """One line for each thing that start would do otherwise than the spec says, with its reason."""


@runtime_checkable
class ReportsEffectiveSpec(Protocol):
    """A driver that knows what it gave the machine: the spec may ask for more since, or for what could not be had."""

    def effective_spec(self) -> MachineSpec | None:
        """The spec with the memory and CPUs of the machine that is on; None when it is off."""


@runtime_checkable
class GrowsDisk(Protocol):
    """A driver that can make the data disk of a machine larger; nobody makes it smaller."""

    def disk_mib(self) -> int:
        """How large it is now; 0 when there is none."""

    def grow_disk(self, size_mib: int) -> None:
        """Make it that large, with all that is on it. Raises InvalidStateError unless the machine is off."""


@runtime_checkable
class CompactsDisk(Protocol):
    """A driver that knows what the data disk takes of this host, and gives back what it need not."""

    @property
    def trims(self) -> bool:
        """Whether what a running guest discards is given back at once; else only blocks of zeros, by compact_disk."""

    def disk_room(self) -> int:
        """How many bytes of this host the disk takes, with its snapshots."""

    def compact_disk(self) -> None:
        """Give back blocks of zeros. Raises InvalidStateError for a machine that is not off, or has snapshots."""


@runtime_checkable
class TakesSnapshots(Protocol):
    """A driver that can keep what the data disk is now, and go back to it; all or nothing, else B2dError.

    Names are taken as they come: whoever asks has looked whether there is such a snapshot.
    """

    def snapshots(self) -> list[Snapshot]:
        """The oldest first. Memory is in none of them."""

    def take_snapshot(self, name: str) -> None:
        """Of a machine that is off, or that runs, and runs on: of that one as after a power cut."""

    def restore_snapshot(self, name: str) -> None:
        """The disk is what it was then, and a saved state is no more.

        Raises InvalidStateError for a machine that is on.
        """

    def delete_snapshot(self, name: str) -> None:
        """The disk and all others stay as they are, whatever the machine does."""


@runtime_checkable
class ForwardsPorts(Protocol):
    """A driver that can forward ports of this host into a running machine.

    Each method raises InvalidStateError for a machine that does not run.
    """

    def forwarded(self) -> list[Forward]:
        """Those that lead there now, but the machine's own two."""

    def forward_obstacle(self, one: Forward) -> str:
        """Why it could never lead there; "" where it could."""

    def forward(self, one: Forward) -> None:
        """Raises HypervisorError for a port that cannot be had."""

    def remove_forward(self, one: Forward) -> None:
        """Take it away. Not there: HypervisorError."""


@runtime_checkable
class DialsGuest(Protocol):
    """A driver that connects to ports of the guest that no forward leads to."""

    def dial(self, port: int, timeout_s: float) -> "socket.socket":
        """Return a connection to a TCP port of the running guest. Raises InvalidStateError, B2dError and OSError."""


@runtime_checkable
class Console(Protocol):
    """A driver that keeps what the guest wrote on its serial console."""

    def console(self) -> str:
        """All of it since the last start, undecodable bytes replaced."""


@runtime_checkable
class MovesClock(Protocol):
    """A driver whose guest can be told what time it is, without a connection to it."""

    def move_clock(self, seconds: int) -> None:
        """Move the guest's clock, and its clock chip. Raises B2dError unless the guest says that it was done."""


@runtime_checkable
class MountsFolders(Protocol):
    """A driver whose machine cannot be saved while its guest has folders of this host."""

    def unmount_folders(self) -> None:
        """Have the guest let go of all.

        Raises InvalidStateError where something in it uses one; none there: nothing.
        """

    def mount_folders(self) -> list[str]:
        """Have the guest take those again that it lacks; the paths of those that it cannot have."""


@runtime_checkable
class Screen(Protocol):
    """A driver that can show what is on the machine's screen."""

    def screenshot(self) -> bytes:
        """The screen as a PNG. Raises InvalidStateError when the machine is not running."""
