"""Unmount shared folders in a guest before it is saved, and mount them again when it resumes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from b2d.drivers.base import MountsFolders
from b2d.errors import B2dError
from b2d.reporting.base import Reporter


@contextmanager
def folders_unmounted(folders: MountsFolders | None) -> Iterator[None]:
    """Keep the guest's shared folders unmounted in the block, and mount them again when it fails.

    Raises what unmount_folders raises.
    """
    if folders is None:
        yield
        return
    try:
        folders.unmount_folders()
        yield
    except BaseException:
        with suppress(B2dError):
            folders.mount_folders()
        raise


def mount_folders(folders: MountsFolders | None, reporter: Reporter) -> None:
    """Mount the shared folders again in a guest that was saved, or whose save was cut off; warn where that fails."""
    if folders is None:
        return
    try:
        for path in folders.mount_folders():
            reporter.warn(f"the folder {path} of this host is not available in the machine")
    except B2dError as error:
        reporter.warn(f"folders of this host could not be mounted in the machine: {error.message}")
