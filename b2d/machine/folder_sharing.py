"""Unmount shared folders in a guest before it is saved, and mount them again when it resumes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from b2d.drivers.base import Driver, MountsFolders
from b2d.errors import B2dError
from b2d.reporting.base import Reporter


@contextmanager
def folders_unmounted(driver: Driver) -> Iterator[None]:
    """Keep the guest's shared folders unmounted in the block, and mount them again when it fails.

    Raises what unmount_folders raises.
    """
    if not isinstance(driver, MountsFolders):
        yield
        return
    try:
        driver.unmount_folders()
        yield
    except BaseException:
        with suppress(B2dError):
            driver.mount_folders()
        raise


def mount_folders(driver: Driver, reporter: Reporter) -> None:
    """Mount the shared folders again in a guest that was saved, or whose save was cut off; warn where that fails."""
    if not isinstance(driver, MountsFolders):
        return
    try:
        for path in driver.mount_folders():
            reporter.warn(f"the folder {path} of this host is not available in the machine")
    except B2dError as error:
        reporter.warn(f"folders of this host could not be mounted in the machine: {error.message}")
