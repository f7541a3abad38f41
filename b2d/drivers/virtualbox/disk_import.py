"""Machines of VirtualBox that are not b2d's: which there are, and a copy of a disk, which VirtualBox puts together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from b2d.drivers.qemu.disk_import import SLOWEST, ImageCopy, check_disk
from b2d.drivers.virtualbox.calls import translate_errors, wait_for_progress
from b2d.errors import B2dError
from b2d.host.polling import wait_until
from b2d.host.signals import signals_deferred
from b2d.importing.candidates import ImportCandidate, from_vbox_settings

if TYPE_CHECKING:
    from b2d.drivers.virtualbox.client import VirtualBox

LEAST_S = 60.0
KINDS = ("vmdk", "vdi", "vpc")  # that VirtualBox reads itself, as qemu-img names them


def find_machines(box: "VirtualBox", ours: Path) -> list[ImportCandidate]:
    """The machines whose settings do not lie below `ours`; those that cannot be understood are passed over."""
    found = []
    with translate_errors():
        for machine in box.array("machines"):
            settings = Path(str(machine.settingsFilePath))
            if settings.is_relative_to(ours) or not machine.accessible:
                continue
            try:
                found.append(from_vbox_settings(settings, box.state(int(machine.state))))
            except B2dError:
                continue
    return found


class MediumCopy:
    """The first disk of `chain` as a VDI, with all that those below hold: each is the parent of the one before it."""

    def __init__(self, box: "VirtualBox", chain: Sequence[Path]) -> None:
        self._box = box
        self._path = chain[0]
        with translate_errors():
            _ = box.root  # where there is no VirtualBox, no file is looked at
        _check_chain(chain)
        with self._medium() as medium:
            files = _files(medium)
            if strangers := sorted(str(file) for file in files if not _is_among(file, chain)):
                said = f"{self._path} is based on disks that the machine's settings do not name"
                raise B2dError(said, details="\n".join(strangers))
            self.size = int(medium.logical_size)
            self._room = sum(file.stat().st_size for file in files)

    def room(self) -> int:
        return self._room

    def read(self, offset: int, size: int) -> bytes:
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        with self._medium() as medium:
            content = medium.open_for_io(False, "")
            try:
                return bytes(content._i.read(offset, size))
            finally:
                content.close()

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        library = self._box.pyvbox.library
        with self._medium() as medium:
            made = self._box.root.create_medium(
                "VDI", str(target), library.AccessMode.read_write, library.DeviceType.hard_disk
            )
            progress = None
            try:
                with signals_deferred():  # a disk that is being made, or that nobody follows, could not be let go of
                    # VirtualBox would enter one that is not there yet in the original's own settings (seen on 7.2)
                    wait_for_progress(
                        made.create_base_storage(self.size, [library.MediumVariant.standard]), "the disk", LEAST_S
                    )
                    progress = medium.clone_to_base(made, [library.MediumVariant.standard])
                self._follow(progress, advance)
            except BaseException:
                if progress is not None and not progress.completed:
                    progress.cancel()
                    wait_until(
                        lambda: bool(progress.completed), condition="VirtualBox to let go of it", timeout_s=LEAST_S
                    )
                raise
            finally:
                made.close()  # the file stays: whoever attaches it takes it up

    def _follow(self, progress: Any, advance: Callable[[int], None]) -> None:
        done = 0

        def look() -> bool:
            nonlocal done
            now = self.size * int(progress.percent) // 100
            advance(now - done)
            done = now
            return bool(progress.completed)

        limit_s = LEAST_S + self.size / SLOWEST
        wait_until(look, condition="VirtualBox to copy the disk", timeout_s=limit_s, interval_s=0.1)
        wait_for_progress(progress, "the disk", LEAST_S)

    @contextmanager
    def _medium(self) -> Iterator[Any]:
        """The disk, opened so that nothing of it changes; VirtualBox knows of it afterwards only if it did before."""
        library = self._box.pyvbox.library
        with translate_errors():
            before = {str(one.location) for one in self._box.root.hard_disks}
            medium = self._box.root.open_medium(
                str(self._path), library.DeviceType.hard_disk, library.AccessMode.read_only, False
            )
            try:
                medium.refresh_state()
                yield medium
            finally:
                if not medium.machine_ids and str(medium.location) not in before:
                    medium.close()


class FlattenedDisk(MediumCopy):
    """The same for QEMU: what VirtualBox put together is copied once more."""

    def room(self) -> int:
        return 2 * super().room()

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        whole = target.with_name(f"{target.name}.vdi")
        try:
            super().copy(whole, lambda amount: advance(amount // 2))
            ImageCopy(whole, "qcow2").copy(target, lambda amount: advance(amount // 2))
        finally:
            whole.unlink(missing_ok=True)


def _check_chain(chain: Sequence[Path]) -> None:
    """Check every file before VirtualBox opens it; all but the last may be layers. Raises B2dError."""
    for number, path in enumerate(chain):
        if number and path.is_symlink():
            raise B2dError(f"{path} is a link, and is not followed")
        if (kind := check_disk(path, child=number < len(chain) - 1)) not in KINDS:
            raise B2dError(f"{path} is a disk of a kind that b2d does not copy: {kind}")


def _files(medium: Any) -> list[Path]:
    """Return the files of all layers."""
    found, raw = [], medium._i  # pyvbox makes something of a parent that is not there
    while raw is not None:
        found.append(Path(str(raw.location)))
        raw = raw.parent
    return found


def _is_among(file: Path, chain: Sequence[Path]) -> bool:
    try:
        return any(file.samefile(one) for one in chain)
    except OSError:
        return False
