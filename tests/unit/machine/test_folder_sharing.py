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


def test_qemu_lends_folders_and_virtualbox_saves_with_them() -> None:
    qemu: Driver = QemuDriver(a_spec(), MachinePaths(Path("/m")), lambda: DIRECT)
    assert isinstance(qemu, MountsFolders)
    assert not issubclass(VirtualBoxDriver, MountsFolders)


def test_they_are_taken_back_for_a_save_and_stay_away() -> None:
    driver = lender()
    with folders_unmounted(driver):
        assert driver.calls == ["take"]
    assert driver.calls == ["take"]


@pytest.mark.parametrize("error", [B2dError("the disk is full"), KeyboardInterrupt()])
def test_a_save_that_fails_or_is_interrupted_gives_them_again(error: BaseException) -> None:
    driver = lender()
    with pytest.raises(type(error)), folders_unmounted(driver):
        raise error
    assert driver.calls == ["take", "give"]


def test_a_guest_that_keeps_them_is_not_saved_and_the_reason_is_its_own() -> None:
    driver = lender()
    driver.refuses = InvalidStateError("the container web uses it")
    driver.silent = B2dError("it says nothing")
    with pytest.raises(InvalidStateError, match="the container web uses it"), folders_unmounted(driver):
        raise AssertionError("it was saved")


def test_what_cannot_be_had_again_is_a_warning() -> None:
    driver, reporter = lender(), FakeReporter()
    driver.lacking = ("/data", "/more")
    mount_folders(driver, reporter)
    assert reporter.messages == [
        ("warn", f"the folder {path} of this host is not available in the machine") for path in driver.lacking
    ]


def test_a_guest_that_does_not_answer_is_a_warning_too() -> None:
    driver, reporter = lender(), FakeReporter()
    driver.silent = B2dError("it says nothing")
    mount_folders(driver, reporter)
    assert reporter.messages == [("warn", "folders of this host could not be mounted in the machine: it says nothing")]


def test_a_driver_that_lends_nothing_is_left_alone() -> None:
    plain, reporter = FakeDriver(a_spec()), FakeReporter()
    with folders_unmounted(plain):
        pass
    mount_folders(plain, reporter)
    assert (plain.calls, reporter.messages) == ([], [])
