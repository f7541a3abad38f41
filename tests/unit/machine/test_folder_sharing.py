"""Folders are unmounted in the guest during a save, and mounted again whatever its outcome."""

from pathlib import Path

import pytest

from b2d.drivers.base import Driver, MountsFolders
from b2d.drivers.qemu.driver import QemuDriver
from b2d.drivers.virtualbox.driver import VirtualBoxDriver
from b2d.errors import B2dError, InvalidStateError
from b2d.machine.folder_sharing import folders_unmounted, mount_folders
from b2d.paths import MachinePaths
from tests.support.fakes import FakeDriver, FakeReporter, a_spec
from tests.unit.drivers.qemu.test_command_line import DIRECT


class Lender(FakeDriver):
    """A fake driver that shares folders; tests set the outcome."""

    refuses: B2dError | None = None
    silent: B2dError | None = None
    lacking: tuple[str, ...] = ()

    def unmount_folders(self) -> None:
        self.calls.append("take")
        if self.refuses is not None:
            raise self.refuses

    def mount_folders(self) -> list[str]:
        self.calls.append("give")
        if self.silent is not None:
            raise self.silent
        return list(self.lacking)


def lender() -> Lender:
    return Lender(a_spec())


def test_qemu_unmounts_folders_for_a_save_and_virtualbox_does_not() -> None:
    qemu: Driver = QemuDriver(a_spec(), MachinePaths(Path("/m")), lambda: DIRECT)
    assert isinstance(qemu, MountsFolders)
    assert not issubclass(VirtualBoxDriver, MountsFolders)


def test_folders_are_unmounted_for_a_save_and_stay_unmounted() -> None:
    driver = lender()
    with folders_unmounted(driver):
        assert driver.calls == ["take"]
    assert driver.calls == ["take"]


@pytest.mark.parametrize("error", [B2dError("the disk is full"), KeyboardInterrupt()])
def test_folders_are_mounted_again_after_a_failed_or_interrupted_save(error: BaseException) -> None:
    driver = lender()
    with pytest.raises(type(error)), folders_unmounted(driver):
        raise error
    assert driver.calls == ["take", "give"]


def test_a_guest_that_refuses_to_unmount_is_not_saved_and_its_reason_is_reported() -> None:
    driver = lender()
    driver.refuses = InvalidStateError("the container web uses it")
    driver.silent = B2dError("it says nothing")
    with pytest.raises(InvalidStateError, match="the container web uses it"), folders_unmounted(driver):
        raise AssertionError("it was saved")


def test_a_folder_that_cannot_be_mounted_again_is_a_warning() -> None:
    driver, reporter = lender(), FakeReporter()
    driver.lacking = ("/data", "/more")
    mount_folders(driver, reporter)
    assert reporter.messages == [
        ("warn", f"the folder {path} of this host is not available in the machine") for path in driver.lacking
    ]


def test_a_guest_that_does_not_answer_is_a_warning() -> None:
    driver, reporter = lender(), FakeReporter()
    driver.silent = B2dError("it says nothing")
    mount_folders(driver, reporter)
    assert reporter.messages == [("warn", "folders of this host could not be mounted in the machine: it says nothing")]


def test_nothing_happens_where_the_guest_mounts_its_folders_itself() -> None:
    reporter = FakeReporter()
    with folders_unmounted(None):
        pass
    mount_folders(None, reporter)
    assert reporter.messages == []
