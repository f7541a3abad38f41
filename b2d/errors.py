"""The tree of errors, each with the exit code of a command that fails with it (docs/exit-codes.md)."""

TYPE_CHECKING = False  # as the module typing has it, which is slow to load
if TYPE_CHECKING:
    from typing import Self


class B2dError(Exception):
    """An error: `message` in the user's terms, `hint` a command to type, `details` the output of another program."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: str = "") -> None:
        """Keep message, hint and details."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def replace(self, **changes: "str | int") -> "Self":
        """Return an error of the same kind with another `message`, `hint`, `details` or `exit_code`.

        It is raised from this one: an error that is being raised is not changed.
        """
        changed = type(self).__new__(type(self), *self.args)
        changed.__dict__.update(self.__dict__ | changes)
        changed.args = (changed.message,)
        return changed


class ConfigError(B2dError):
    """A setting, name or argument is invalid: nothing was started."""

    exit_code = 2


class MachineNotFoundError(B2dError):
    """There is no machine with that name."""

    exit_code = 3


class InvalidStateError(B2dError):
    """The machine exists, but its state does not allow the operation."""

    exit_code = 4


class GuestUnreachableError(InvalidStateError):
    """The guest's SSH server does not answer."""


class SavedStateError(InvalidStateError):
    """The saved state of a machine with older hardware cannot be resumed.

    The machine is off and has not booted: the older hardware was retained for that state only.
    """


class WaitTimeoutError(B2dError):
    """A wait exceeded its timeout."""

    exit_code = 5


class HypervisorError(B2dError):
    """The hypervisor is missing, or cannot start a machine on this host."""

    exit_code = 6


class PortInUseError(HypervisorError):
    """Another program listens on a port that this machine was to have."""


class ImageError(B2dError):
    """An image is missing, damaged, unverified or unfit."""

    exit_code = 7


class DownloadError(ImageError):
    """A download failed, or gave another file than expected; nothing of it is stored."""


class MachineLockedError(B2dError):
    """Another b2d process holds the machine's lock."""

    exit_code = 8
