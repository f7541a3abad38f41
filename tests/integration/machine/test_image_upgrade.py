"""Upgrade and rollback in every state: the newest image or the old one, never a mixture, and no loss of data."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from b2d.errors import (
    B2dError,
    ConfigError,
    DownloadError,
    HypervisorError,
    ImageError,
    InvalidStateError,
    MachineLockedError,
    MachineNotFoundError,
)
from b2d.machine.image_upgrade import ImageUpgrade, UpgradeResult
from b2d.models import OFF_STATES, Image, MachineState
from tests.support.fake_machine import Box, Interrupter

OLD, NEW, NEWER, FIRST = (sign * 64 for sign in "0129")
RUNS = {
    OLD: ("26.1.5", "6.12.57"),
    NEW: ("26.1.5", "6.12.63"),
    NEWER: ("26.1.6", "6.12.63"),
    FIRST: ("26.1.4", "6.12.1"),
}
DOCKER_OF_2018 = ("18.06.1-ce", "4.9.93")
STOPPED, SAVED, RUNNING = MachineState.STOPPED, MachineState.SAVED, MachineState.RUNNING
AFTERWARDS = {
    MachineState.STOPPED: STOPPED,
    MachineState.CRASHED: STOPPED,
    MachineState.STOPPING: STOPPED,
    MachineState.STARTING: RUNNING,
    MachineState.RUNNING: RUNNING,
    MachineState.PAUSED: RUNNING,
    MachineState.SAVED: RUNNING,
}
PLENTY = 300  # more moments than any command has


@pytest.fixture
def box(box: Box) -> Box:
    """Return a box with images that declare their content and guests that run exactly that."""
    box.images.versions = {sha256: "-".join(versions) for sha256, versions in RUNS.items()}
    box.runs = {sha256: (f"{docker}+dfsg1", f"{linux}+deb13-amd64") for sha256, (docker, linux) in RUNS.items()}
    box.looks_until_off = 1
    return box


def exchange(
    box: Box, strikes: Interrupter | None = None, agree: Callable[[str], None] = lambda _: None
) -> ImageUpgrade:
    return ImageUpgrade(box.machine(strikes), agree)


def upgraded(box: Box, strikes: Interrupter | None = None) -> UpgradeResult:
    def newest(source: str) -> Image:
        image = box.images.find(source)
        assert image is not None
        return image

    return exchange(box, strikes).upgrade(newest)


def decline(_: str) -> None:
    raise ConfigError("nobody can be asked", hint="--yes")


def with_an_earlier_one(box: Box, state: MachineState) -> None:
    """Prepare a machine in that state that had another image before."""
    box.in_state(state)
    box.images.sources = {FIRST: "debian", OLD: "debian"}
    box.store.write(box.machine().spec()._replace(previous=FIRST))


@pytest.mark.parametrize(("before", "after"), AFTERWARDS.items())
def test_an_upgrade_boots_the_newest_image_and_keeps_the_machine_on_or_off(
    box: Box, before: MachineState, after: MachineState
) -> None:
    machine = box.in_state(before)
    disk = box.hypervisor.machines["box"]
    box.add_newer_image()
    result = upgraded(box)
    assert (result.changed, result.image.sha256, result.before, result.state) == (True, NEW, "26.1.5-6.12.57", after)
    assert machine.state() == after
    assert box.booted() == NEW
    assert machine.spec() == box.spec(image=NEW, previous=OLD)
    assert box.hypervisor.machines["box"] is disk
    assert box.paths.env.exists() == (after == RUNNING)


def followed(box: Box, source: str) -> UpgradeResult:
    """Upgrade to the newest image of another source."""
    newest = {"boot2docker": NEW, "debian": OLD}
    return exchange(box).upgrade(lambda wanted: box.images.get(newest[wanted]), source)


def test_another_source_is_followed_from_then_on_and_a_rollback_returns(box: Box) -> None:
    machine = box.in_state(RUNNING)
    box.images.sources[NEW] = "boot2docker"
    assert followed(box, "boot2docker").image.sha256 == NEW
    assert machine.spec() == box.spec(source="boot2docker", image=NEW, previous=OLD, previous_source="debian")
    machine.restart()
    assert box.booted() == NEW
    exchange(box).rollback()
    assert machine.spec() == box.spec(image=OLD, refused=NEW)
    assert followed(box, "boot2docker").image.sha256 == NEW
    assert followed(box, "debian").image.sha256 == OLD
    assert machine.spec() == box.spec(image=OLD, previous=NEW, previous_source="boot2docker")


def test_an_image_of_another_source_that_does_not_start_leaves_image_and_source(box: Box) -> None:
    machine = box.in_state(RUNNING)
    box.images.sources[NEW] = "boot2docker"
    box.runs[NEW] = ("1.0", "2.0")
    with pytest.raises(B2dError, match="was rolled back"):
        followed(box, "boot2docker")
    assert machine.spec() == box.spec(image=OLD, refused=NEW)
    assert box.booted() == OLD


def test_the_same_image_from_another_source_boots_nothing(box: Box) -> None:
    machine = box.in_state(RUNNING)
    calls = list(box.calls)
    result = exchange(box).upgrade(lambda _: box.images.get(OLD), "/images/same.iso")
    assert (result.changed, machine.spec().source) == (False, "/images/same.iso")
    assert [call for call in box.calls if call not in calls] in ([], ["check"])


@pytest.mark.parametrize(("before", "after"), AFTERWARDS.items())
def test_rollback_works_in_every_state_and_keeps_the_machine_on_or_off(
    box: Box, before: MachineState, after: MachineState
) -> None:
    with_an_earlier_one(box, before)
    disk = box.hypervisor.machines["box"]
    result = exchange(box).rollback()
    assert (result.changed, result.image.sha256, result.before, result.state) == (True, FIRST, "26.1.5-6.12.57", after)
    machine = box.machine()
    assert machine.state() == after
    assert machine.spec() == box.spec(image=FIRST, refused=OLD)
    assert box.hypervisor.machines["box"] is disk
    machine.restart()
    assert box.booted() == FIRST


@pytest.mark.parametrize("spec_there", [True, False])
def test_a_missing_machine_is_reported(box: Box, spec_there: bool) -> None:
    if spec_there:
        box.in_state(STOPPED)
        box.hypervisor.machines.clear()
    with pytest.raises(MachineNotFoundError):
        upgraded(box)
    with pytest.raises(MachineNotFoundError):
        exchange(box).rollback()


@pytest.mark.parametrize("state", [STOPPED, MachineState.CRASHED, SAVED, MachineState.PAUSED, RUNNING])
def test_a_machine_with_the_newest_image_is_unchanged(box: Box, state: MachineState) -> None:
    box.in_state(state)
    result = upgraded(box)
    assert (result.changed, result.image.sha256, result.state) == (False, OLD, state)
    assert box.calls == ["check"]


def test_a_machine_that_runs_another_image_than_its_own_is_restarted(box: Box) -> None:
    """A user inserted another medium in the hypervisor's own window."""
    box.in_state(RUNNING)
    machine = box.hypervisor.machines["box"]
    machine.booted = box.spec(image=FIRST)
    result = upgraded(box)
    assert (result.changed, result.before, box.booted()) == (True, "", OLD)
    assert box.machine().spec() == box.spec()


def test_without_confirmation_a_saved_machine_is_unchanged(box: Box) -> None:
    for verb in ("upgrade", "rollback"):
        with_an_earlier_one(box, SAVED)
        newer = box.add_newer_image()
        spec = box.machine().spec()
        upgrade = exchange(box, agree=decline)
        with pytest.raises(ConfigError):
            upgrade.rollback() if verb == "rollback" else upgrade.upgrade(lambda _, newer=newer: newer)  # type: ignore[misc]
        assert box.machine().state() == SAVED
        assert box.machine().spec() == spec
        assert set(box.calls) <= {"check"}
        box.machine().delete()
        del box.images.sources[NEW]


def test_a_saved_machine_is_resumed_stopped_cleanly_and_booted(box: Box) -> None:
    box.in_state(SAVED)
    box.add_newer_image()
    upgraded(box)
    machine = box.hypervisor.machines["box"]
    assert (machine.resumes, machine.boots) == (1, 2)
    assert [call for call in box.calls if call != "check"] == ["start", "stop", "kill", "start"]


def test_a_failed_download_or_a_damaged_image_stops_no_machine(box: Box) -> None:
    box.in_state(RUNNING)

    def newest(_: str) -> Image:
        raise DownloadError("the disk is full")

    with pytest.raises(DownloadError):
        exchange(box).upgrade(newest)
    box.images.damaged.add(box.add_newer_image().sha256)
    with pytest.raises(ImageError):
        upgraded(box)
    assert box.machine().state() == RUNNING
    assert box.machine().spec() == box.spec()
    assert set(box.calls) == {"check"}


def test_no_image_is_downloaded_for_an_unusable_hypervisor(box: Box) -> None:
    box.in_state(RUNNING)
    box.hypervisor.unusable = HypervisorError("there is none")
    with pytest.raises(HypervisorError):
        exchange(box).upgrade(lambda _: pytest.fail("it was asked for"))
    assert box.machine().state() == RUNNING


def crash(box: Box) -> str:
    box.crashing.add(NEW)
    return "crashed"


def silence_docker(box: Box) -> str:
    box.silent.add(NEW)
    box.wait_s = 0.5
    return "did not answer within"


def report_failure(box: Box) -> str:
    box.failing[NEW] = "no disk or CD contains b2d's root file system"
    return "no disk or CD contains"


def report_other_versions(box: Box) -> str:
    box.runs[NEW] = box.runs[OLD]
    return "it runs Linux 6.12.57"


def report_nothing(box: Box) -> str:
    del box.runs[NEW]
    return "does not report its version"


FAULTS = [crash, silence_docker, report_failure, report_other_versions, report_nothing]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("state", [RUNNING, STOPPED])
def test_an_image_that_fails_to_start_is_rolled_back(
    box: Box, fault: Callable[[Box], str], state: MachineState
) -> None:
    machine = box.in_state(state)
    disk = box.hypervisor.machines["box"]
    box.add_newer_image()
    why = fault(box)
    with pytest.raises(B2dError) as caught:
        upgraded(box)
    assert caught.value.exit_code == 1
    message = "box did not start with the image 26.1.5-6.12.63, and was rolled back to 26.1.5-6.12.57: "
    assert caught.value.message.startswith(message)
    assert why in caught.value.message
    assert machine.state() == state
    assert machine.spec() == box.spec(refused=NEW)
    assert box.hypervisor.machines["box"] is disk
    machine.restart()
    assert box.booted() == OLD


def test_the_error_contains_the_last_console_lines_of_the_failed_image(box: Box) -> None:
    box.in_state(RUNNING)
    box.add_newer_image()
    report_failure(box)
    with pytest.raises(B2dError) as caught:
        upgraded(box)
    assert "b2d: fail no disk or CD contains b2d's root file system" in caught.value.details


def test_a_refused_image_is_tried_again_on_request_and_a_newer_one_automatically(box: Box) -> None:
    machine = box.in_state(RUNNING)
    box.add_newer_image()
    crash(box)
    for _ in range(2):
        with pytest.raises(B2dError, match="was rolled back to"):
            upgraded(box)
    box.crashing.clear()
    machine.restart()
    assert box.booted() == OLD
    box.add_newer_image("2")
    machine.restart()
    assert box.booted() == NEWER
    assert machine.spec() == box.spec(image=NEWER, previous=OLD)


def test_after_a_rollback_the_newer_image_is_used_only_on_request(box: Box) -> None:
    machine = box.in_state(RUNNING)
    box.add_newer_image()
    upgraded(box)
    assert exchange(box).rollback().image.sha256 == OLD
    machine.restart()
    assert box.booted() == OLD
    with pytest.raises(B2dError, match="no previous image") as caught:
        exchange(box).rollback()
    assert (caught.value.exit_code, caught.value.hint) == (1, "b2d upgrade --vm box")
    assert upgraded(box).image.sha256 == NEW
    assert machine.spec() == box.spec(image=NEW, previous=OLD)


def test_the_previous_image_survives_a_failed_upgrade(box: Box) -> None:
    with_an_earlier_one(box, RUNNING)
    box.add_newer_image()
    crash(box)
    with pytest.raises(B2dError, match="was rolled back to"):
        upgraded(box)
    assert box.machine().spec() == box.spec(previous=FIRST, refused=NEW)


def test_when_the_old_image_fails_too_both_failures_are_reported(box: Box) -> None:
    box.in_state(RUNNING)
    box.add_newer_image()
    box.crashing |= {OLD, NEW}
    with pytest.raises(B2dError, match=r"was rolled back to .*; it does not start with that image either: ") as caught:
        upgraded(box)
    assert caught.value.exit_code == 1
    assert box.machine().spec().image == OLD


@pytest.mark.parametrize("verb", ["upgrade", "rollback"])
def test_an_image_that_is_no_longer_stored_is_reported(box: Box, verb: str) -> None:
    with_an_earlier_one(box, RUNNING)
    if verb == "rollback":
        del box.images.sources[FIRST]
        with pytest.raises(B2dError, match=r"no longer stored"):
            exchange(box).rollback()
        assert box.calls == []
    else:
        box.add_newer_image()
        del box.images.sources[OLD]
        crash(box)
        with pytest.raises(B2dError, match="no previous image"):
            upgraded(box)
    assert box.paths.spec.exists()


def test_a_failed_up_with_a_newer_image_suggests_rollback(box: Box) -> None:
    machine = box.in_state(STOPPED)
    box.add_newer_image()
    crash(box)
    for _ in range(2):
        with pytest.raises(B2dError) as caught:
            machine.up()
        assert caught.value.hint == "b2d rollback --vm box"
    assert exchange(box).rollback().image.sha256 == OLD
    machine.up()
    assert box.booted() == OLD
    box.crashing = {OLD}
    machine.stop()
    with pytest.raises(B2dError) as caught:
        machine.up()
    assert caught.value.hint == "b2d logs --vm box"


def test_rollback_returns_to_an_image_that_started(box: Box) -> None:
    """An image that `up` tried since without success is skipped."""
    machine = box.in_state(RUNNING)
    machine.stop()
    box.add_newer_image()
    crash(box)
    with pytest.raises(B2dError):
        machine.up()
    box.add_newer_image("2")
    machine.up()
    assert machine.spec() == box.spec(image=NEWER, previous=OLD)


def test_a_failed_upgrade_rolls_back_to_an_image_that_started(box: Box) -> None:
    machine = box.in_state(STOPPED)
    box.add_newer_image()
    crash(box)
    with pytest.raises(B2dError):
        machine.up()
    box.add_newer_image("2")
    box.crashing.add(NEWER)
    with pytest.raises(B2dError, match=r"was rolled back to 26\.1\.5-6\.12\.57"):
        upgraded(box)
    assert machine.spec() == box.spec(refused=NEWER)


def test_an_upgrade_after_a_failed_up_rolls_back(box: Box) -> None:
    machine = box.in_state(STOPPED)
    box.add_newer_image()
    crash(box)
    with pytest.raises(B2dError):
        machine.up()
    with pytest.raises(B2dError, match=r"was rolled back to 26\.1\.5-6\.12\.57"):
        upgraded(box)
    assert machine.spec() == box.spec(refused=NEW)


def of_2018(box: Box, storage: str) -> None:
    """Make the old image one of boot2docker's, whose Docker has that storage driver."""
    box.images.versions[OLD] = DOCKER_OF_2018[0]
    box.runs[OLD] = DOCKER_OF_2018
    box.storage = storage


@pytest.mark.parametrize("state", [RUNNING, STOPPED, SAVED])
def test_an_upgrade_never_loses_aufs_data(box: Box, state: MachineState) -> None:
    of_2018(box, "aufs")
    box.in_state(state)
    box.add_newer_image()
    with pytest.raises(B2dError, match="AUFS") as caught:
        upgraded(box)
    assert (caught.value.exit_code, "docker save" in caught.value.hint) == (1, True)
    assert box.calls == ["check"]
    assert (box.machine().state(), box.machine().spec()) == (state, box.spec())


def test_the_storage_driver_reported_by_docker_overrides_the_version(box: Box) -> None:
    box.in_state(RUNNING)
    box.storage = "aufs"
    box.add_newer_image()
    with pytest.raises(B2dError, match="AUFS"):
        upgraded(box)
    of_2018(box, "overlay2")
    assert upgraded(box).image.sha256 == NEW


def test_a_saved_machine_with_aufs_data_is_left_running(box: Box) -> None:
    box.in_state(SAVED)
    box.storage = "aufs"
    box.add_newer_image()
    with pytest.raises(B2dError, match="AUFS"):
        upgraded(box)
    assert (box.machine().state(), box.machine().spec()) == (RUNNING, box.spec())


def test_up_keeps_the_old_image_of_a_machine_with_aufs_data(box: Box) -> None:
    of_2018(box, "aufs")
    machine = box.in_state(STOPPED)
    box.add_newer_image()
    machine.up()
    assert box.booted() == OLD
    assert ["AUFS" in text for text in box.reporter.texts("warn")] == [True]


def test_a_locked_machine_is_busy_and_unchanged(box: Box) -> None:
    with_an_earlier_one(box, RUNNING)
    newer = box.add_newer_image()
    with box.store.lock("box", "up"):
        with pytest.raises(MachineLockedError):
            exchange(box).upgrade(lambda _: newer)
        with pytest.raises(MachineLockedError):
            exchange(box).rollback()
    assert box.machine().spec() == box.spec(previous=FIRST)
    assert box.machine().state() == RUNNING


def test_a_machine_started_by_another_process_keeps_its_image(box: Box) -> None:
    with_an_earlier_one(box, RUNNING)
    going = exchange(box)
    ended = going.machine.stop

    def stop() -> bool:
        ended()
        box.machine().up()
        return True

    going.machine.stop = stop  # type: ignore[method-assign]
    with pytest.raises(InvalidStateError, match="another process"):
        going.rollback()
    assert box.machine().spec().image == OLD


def prepared(box: Box, state: MachineState) -> None:
    box.images.sources = {OLD: "debian"}
    box.in_state(state)
    box.add_newer_image()


@pytest.mark.parametrize("state", [RUNNING, SAVED, STOPPED])
def test_an_upgrade_can_be_interrupted_at_every_point_and_the_next_one_completes_it(
    box: Box, state: MachineState
) -> None:
    for at in range(1, PLENTY):
        prepared(box, state)
        strikes = Interrupter(at)
        with suppress(KeyboardInterrupt):
            upgraded(box, strikes)
        spec = box.machine().spec()
        assert (spec.image, spec.previous) in ((OLD, ""), (NEW, OLD)), at
        upgraded(box)
        assert box.machine().spec() == box.spec(image=NEW, previous=OLD), at
        box.machine().up()
        assert box.booted() == NEW, at
        box.machine().delete()
        if strikes.passed < at:
            return
    pytest.fail("it never came to its end")


def test_an_automatic_rollback_can_be_interrupted_at_every_point(box: Box) -> None:
    crash(box)
    for at in range(1, PLENTY):
        prepared(box, RUNNING)
        strikes = Interrupter(at)
        with suppress(KeyboardInterrupt, B2dError):
            upgraded(box, strikes)
        spec = box.machine().spec()
        assert (spec.image, spec.previous) in ((OLD, ""), (NEW, OLD)), at
        with pytest.raises(B2dError, match="was rolled back to"):
            upgraded(box)
        assert box.machine().spec() == box.spec(refused=NEW), at
        box.machine().up()
        assert box.booted() == OLD, at
        box.machine().delete()
        if strikes.passed < at:
            return
    pytest.fail("it never came to its end")


def test_a_rollback_can_be_interrupted_at_every_point(box: Box) -> None:
    for at in range(1, PLENTY):
        box.images.sources = {OLD: "debian"}
        with_an_earlier_one(box, RUNNING)
        strikes = Interrupter(at)
        with suppress(KeyboardInterrupt):
            exchange(box, strikes).rollback()
        if box.machine().spec().image == OLD:
            exchange(box).rollback()
        assert box.machine().spec() == box.spec(image=FIRST, refused=OLD), at
        box.machine().up()
        assert box.booted() == FIRST, at
        box.machine().delete()
        if strikes.passed < at:
            return
    pytest.fail("it never came to its end")


def test_the_state_after_an_upgrade_is_defined_for_every_state() -> None:
    assert set(AFTERWARDS) == set(MachineState) - {MachineState.ABSENT}
    assert {state for state, after in AFTERWARDS.items() if after == STOPPED} == OFF_STATES - {MachineState.ABSENT} | {
        MachineState.STOPPING
    }
