"""The one tree of errors, with the exit code that each kind ends a command with (docs/exit-codes.md)."""


class B2dError(Exception):
    """What went wrong: `message` in the user's words, `hint` something to type, `details` the foreign output."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class ConfigError(B2dError):
    """A setting, name or argument that cannot be: nothing was begun."""

    exit_code = 2


class MachineNotFoundError(B2dError):
    """There is no machine of that name."""

    exit_code = 3


class InvalidStateError(B2dError):
    """The machine exists, but is not in a state in which this can be done."""

    exit_code = 4


class SavedStateError(InvalidStateError):
    """The state of a machine of older hardware does not fit any more. It is off, and has not booted: that hardware
    was kept for that state alone."""


class WaitTimeoutError(B2dError):
    """A bounded wait came to its end."""

    exit_code = 5


class HypervisorError(B2dError):
    """The hypervisor is missing, or cannot start a machine here."""

    exit_code = 6


class ImageError(B2dError):
    """An image is missing, damaged, unverified or unfit."""

    exit_code = 7


class DownloadError(ImageError):
    """A download failed, or gave another file than expected; nothing of it is stored."""


class MachineLockedError(B2dError):
    """Another b2d holds the machine."""

    exit_code = 8
