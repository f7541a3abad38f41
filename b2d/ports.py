"""The doors: what the verbs in machine.py ask of the outside. Implementations live one layer up and stay bare."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import socket

from b2d.model import CommandResult, Endpoint, Forward, Image, MachineSpec, MachineState, ProcessIdentity, Snapshot


class Driver(Protocol):
    """A hypervisor, bound to one machine's spec, image and directory.

    It asks the hypervisor each time, keeps no state of its own, and never waits for the guest, prints or sleeps.
    Every method may raise HypervisorUnusable; foreign errors never leave it.
    """

    def check(self) -> None:
        """Raise HypervisorUnusable, with what to install as its hint, unless a machine could start here."""

    def create(self, payload: bytes) -> None:
        """Make the machine and its data disk, which begins with `payload`. All or nothing."""

    def delete(self) -> None:
        """Remove the machine and its disk, whatever its state. Absent: nothing. Never removes the ISO."""

    def state(self) -> MachineState:
        """What the hypervisor says now. Never raises for an absent machine; true after any crash."""

    def start(self) -> None:
        """Boot, or go on from paused or saved. Returns once the hypervisor has begun.

        A saved state that this hypervisor cannot resume is discarded, and the machine boots; one of older hardware than
        today's does not: StateLost.
        """

    def stop(self) -> None:
        """Press the power button and return at once."""

    def kill(self) -> None:
        """Cut the power. Already off: nothing."""

    def save(self) -> None:
        """Write the state to disk and end the machine; on failure it runs on."""

    def endpoint(self) -> Endpoint:
        """Where the running machine's ports really are. Raises WrongState when it is not running."""


@runtime_checkable
class HasProcess(Protocol):
    """A driver whose machine is one process on this host."""

    def process(self) -> ProcessIdentity | None:
        """The machine's process, or None when it has none."""


@runtime_checkable
class Compromises(Protocol):
    """A driver that cannot always give what was asked for."""

    def compromises(self) -> list[str]:
        """One line for each thing that start would do otherwise than the spec says, with its reason."""


@runtime_checkable
class Measured(Protocol):
    """A driver that knows what it gave the machine: the spec may ask for more since, or for what could not be had."""

    def measured(self) -> MachineSpec | None:
        """The spec with the memory and CPUs of the machine that is on; None when it is off."""


@runtime_checkable
class GrowsDisk(Protocol):
    """A driver that can make the data disk of a machine larger; nobody makes it smaller."""

    def disk_mib(self) -> int:
        """How large it is now; 0 when there is none."""

    def grow_disk(self, size_mib: int) -> None:
        """Make it that large, with all that is on it. Raises WrongState unless the machine is off."""


@runtime_checkable
class CompactsDisk(Protocol):
    """A driver that knows what the data disk takes of this host, and gives back what it need not."""

    @property
    def trims(self) -> bool:
        """Whether what a running guest discards is given back at once; else only blocks of zeros, by compact_disk."""

    def disk_room(self) -> int:
        """How many bytes of this host the disk takes, with its snapshots."""

    def compact_disk(self) -> None:
        """Give back blocks of zeros. Raises WrongState for a machine that is not off, or has snapshots."""


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
        """The disk is what it was then, and a saved state is no more. Raises WrongState for a machine that is on."""

    def delete_snapshot(self, name: str) -> None:
        """The disk and all others stay as they are, whatever the machine does."""


class DiskToCopy(Protocol):
    """A disk that is somebody else's, and stays as it is. Raises B2dError for what cannot be read."""

    @property
    def size(self) -> int:
        """How many bytes a guest sees."""

    def room(self) -> int:
        """How many bytes a copy takes, about."""

    def read(self, offset: int, size: int) -> bytes:
        """What a guest would read there; less where the disk ends."""

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        """Write a disk of one's own kind to a file that is not there; what is done of `size` is told."""


@runtime_checkable
class ForwardsPorts(Protocol):
    """A driver that can lead ports of this host into a machine that runs. Each raises WrongState when it does not."""

    def forwarded(self) -> list[Forward]:
        """Those that lead there now, but the machine's own two."""

    def hindrance(self, one: Forward) -> str:
        """Why it could never lead there; "" where it could."""

    def forward(self, one: Forward) -> None:
        """Raises HypervisorUnusable for a port that cannot be had."""

    def unforward(self, one: Forward) -> None:
        """Take it away. Not there: HypervisorUnusable."""


Dial = Callable[[int, float], "socket.socket"]  # a port of the guest, and seconds


@runtime_checkable
class DialsGuest(Protocol):
    """A driver that connects to ports of the guest that no forward leads to."""

    def dial(self, port: int, timeout_s: float) -> "socket.socket":
        """Return a connection to a TCP port of the running guest. Raises WrongState, B2dError and OSError."""


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
class LendsFolders(Protocol):
    """A driver whose machine cannot be saved while its guest has folders of this host."""

    def take_folders(self) -> None:
        """Have the guest let go of all. Raises WrongState where something in it uses one; none there: nothing."""

    def give_folders(self) -> list[str]:
        """Have the guest take those again that it lacks; the paths of those that it cannot have."""


@runtime_checkable
class Screen(Protocol):
    """A driver that can show what is on the machine's screen."""

    def screenshot(self) -> bytes:
        """The screen as a PNG. Raises WrongState when the machine is not running."""


ANSWER_LIMIT = 1 << 20  # bytes of a command's output in a guest: answers to b2d's own questions have some lines


class Guest(Protocol):
    """The Linux inside, over its own control channel. Raises WrongState when it cannot be reached."""

    def run(self, command: str, timeout_s: float, limit: int = ANSWER_LIMIT) -> CommandResult:
        """Run a shell command line as the user docker. Raises OutOfTime, and WrongState for more than `limit` bytes."""

    def shell(self, command: str | None) -> int:
        """Join this process's streams to `command`; its exit code, 255 when it has none.

        Without one to a shell, which has a terminal when somebody sits at this process's.
        """

    def follow(self, command: str, heard: Callable[[bytes], None]) -> int:
        """Give what `command` writes, as it comes, until it ends; its exit code."""

    def close(self) -> None:
        """End the connection, if there is one; the next question makes another."""

    def on_terminal(self, command: str | None) -> int:
        """The same on a terminal of its own, whose screen and keyboard are this one."""


class PipeEnded(Exception):
    """The command at the other end reads no more: `end` tells why."""


class Pipe(Protocol):
    """A command of a guest's that is given something and says something. Raises OutOfTime, and WrongState."""

    def read(self, size: int) -> bytes:
        """What comes next on its stdout, nothing at the end."""

    def write(self, content: bytes) -> None:
        """All of it. Raises PipeEnded."""

    def end(self) -> CommandResult:
        """Give it no more, and wait for its end; the rest of what it said."""


@runtime_checkable
class PipesCommands(Protocol):
    """A guest whose commands can be streamed to and from."""

    def piped(self, command: str) -> AbstractContextManager[Pipe]:
        """Run a shell command line; leaving the block before its end gives it up."""


class KeptImages(Protocol):
    """The images of this home."""

    def find(self, source: str) -> Image | None:
        """The newest that is kept of a source, or None."""

    def get(self, sha256: str) -> Image:
        """The one of that hash. Raises B2dError, with what to type, when it is not kept."""

    def verify(self, image: Image) -> None:
        """Raise DownloadFailed unless the files are what they were when they were kept."""


class Progress(Protocol):
    """A bar under way."""

    def advance(self, amount: int) -> None:
        """Count `amount` more, in the units of the total."""


class Reporter(Protocol):
    """The voice on stderr. What is said here is for eyes, never for programs."""

    def step(self, text: str) -> AbstractContextManager[None]:
        """Something that takes a while; leaving it says how long it took, or that it failed."""

    def progress(self, text: str, total: int) -> AbstractContextManager[Progress]:
        """Something with a known size."""

    def note(self, text: str) -> None:
        """One line worth knowing."""

    def warn(self, text: str) -> None:
        """One line worth acting on."""
