"""The interface of a hypervisor's driver, and the abilities that only some drivers have."""

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
        """Remove the machine and its disk, whatever its state; do nothing when it is absent. Never remove the ISO."""

    def state(self) -> MachineState:
        """Return the state that the hypervisor reports now, also after a crash. Never raise for an absent machine."""

    def start(self) -> None:
        """Boot, or resume from paused or saved; return once the hypervisor has begun.

        A saved state that this hypervisor cannot resume is discarded, and the machine boots. Raises SavedStateError for
        the saved state of a machine with older hardware than today's: it does not boot.
        """

    def stop(self) -> None:
        """Press the power button and return at once."""

    def kill(self) -> None:
        """Cut the power; do nothing when the machine is off."""

    def save(self) -> None:
        """Write the state to disk and end the machine; on failure it continues to run."""

    def endpoint(self) -> Endpoint:
        """Return the endpoint of the running machine as it is. Raises InvalidStateError when it is not running."""

    def process(self) -> ProcessIdentity | None:
        """Return the machine's process on this host, or None when it has none."""

    def limitations(self) -> list[str]:
        """Return one line for each difference between the spec and what start would do, with its reason."""

    def effective_spec(self) -> MachineSpec | None:
        """Return the spec with the memory and CPUs of the machine that is on; None when it is off.

        The spec may have changed since the start, or may ask for more than the host could give.
        """

    def console(self) -> str:
        """Return the output of the guest's serial console since the last start, undecodable bytes replaced."""

    def screenshot(self) -> bytes:
        """Return the screen as a PNG. Raises InvalidStateError when the machine is not running."""

    def move_clock(self, seconds: int) -> None:
        """Move the guest's clock and its clock chip without a connection to the guest.

        Raises B2dError unless the guest confirms it; a guest without a control port never does.
        """

    def disk_mib(self) -> int:
        """Return the size of the data disk in MiB; 0 when there is none."""

    def grow_disk(self, size_mib: int) -> None:
        """Enlarge the data disk; it never shrinks. Raises InvalidStateError unless the machine is off."""

    @property
    def trims(self) -> bool:
        """Whether space that a running guest discards returns to the host at once; else use compact_disk."""

    def disk_room(self) -> int:
        """Return the number of bytes that the data disk takes on this host, with its snapshots."""

    def compact_disk(self) -> None:
        """Return blocks of zeros to the host. Raises InvalidStateError unless it is off and has no snapshots."""

    def snapshots(self) -> list[Snapshot]:
        """Return the snapshots of the data disk, the oldest first. None contains memory."""

    def take_snapshot(self, name: str) -> None:
        """Take a snapshot of the data disk, all or nothing. The caller has checked that the name is free.

        A running machine continues to run; the snapshot is then as a disk after a power cut.
        """

    def restore_snapshot(self, name: str) -> None:
        """Restore the disk from a snapshot, discard a saved state. Raises InvalidStateError when the machine is on."""

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot, in any state of the machine; the disk and all other snapshots stay as they are."""

    def forwards(self) -> list[Forward]:
        """Return the port forwards of the running machine, except for its own two.

        This and the next three methods raise InvalidStateError when the machine is not running.
        """

    def forward_obstacle(self, forward: Forward) -> str:
        """Return the reason why a port can never be forwarded; "" when it can."""

    def add_forward(self, forward: Forward) -> None:
        """Forward a port of this host into the machine. Raises HypervisorError when it cannot be opened."""

    def remove_forward(self, forward: Forward) -> None:
        """Stop forwarding a port. Raises HypervisorError when it is not forwarded."""


@runtime_checkable
class DialsGuest(Protocol):
    """A driver that connects to ports of the guest without a permanent forward."""

    def dial(self, port: int, timeout_s: float) -> "socket.socket":
        """Return a connection to a TCP port of the running guest. Raises InvalidStateError, B2dError and OSError."""


@runtime_checkable
class StartsFromTemplates(Protocol):
    """A driver that starts a machine from the state of a guest that held before it had an identity.

    `start` uses the template of the machine's image and hardware, if there is one, and boots if that fails.
    """

    def begin_template(self) -> bool:
        """Start a guest that will hold, unless there is a template already or can be none; then return False."""

    def keep_template(self) -> None:
        """Store the state of the guest that holds, and end it. Raises B2dError."""

    def give_up_template(self, reason: str) -> None:
        """End the guest that should hold, and try no template of this hardware for a day."""


@runtime_checkable
class MountsFolders(Protocol):
    """A driver whose machine cannot be saved while its guest has mounted folders of this host."""

    def unmount_folders(self) -> None:
        """Have the guest unmount all shared folders. Raises InvalidStateError when something there uses one."""

    def mount_folders(self) -> list[str]:
        """Have the guest mount the shared folders that it lacks; return the paths of those that it cannot mount."""
