"""Folders of this host are taken back from a guest that is to be saved, and lent again when it goes on."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from b2d.drivers.base import Driver, MountsFolders
from b2d.errors import B2dError
from b2d.reporting.base import Reporter


@contextmanager
def folders_unmounted(driver: Driver) -> Iterator[None]:
    """The guest has none in the block; when that fails, it has them again. Raises what take_folders raises."""
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
    """A guest that was saved has them again, and one whose save was cut off; a warning where that cannot be."""
    if not isinstance(driver, MountsFolders):
        return
    try:
        for path in driver.mount_folders():
            reporter.warn(f"the host's folder {path} cannot be had in the machine")
    except B2dError as error:
        reporter.warn(f"folders of this host could not be had in the machine: {error.message}")
