"""Foreign VirtualBox machines, and copies of their disks, whose layers VirtualBox merges."""

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

MIN_TIMEOUT_S = 60.0
KINDS = ("vmdk", "vdi", "vpc")  # formats that VirtualBox reads, as qemu-img names them


def find_machines(client: "VirtualBox", ours: Path) -> list[ImportCandidate]:
    """Return the machines whose settings are not below `ours`; skip those that cannot be parsed."""
    candidates = []
    with translate_errors():
        for machine in client.array("machines"):
            settings = Path(str(machine.settingsFilePath))
            if settings.is_relative_to(ours) or not machine.accessible:
                continue
            try:
                candidates.append(from_vbox_settings(settings, client.state(int(machine.state))))
            except B2dError:
                continue
    return candidates


class MediumCopy:
    """A copy of the first disk of `chain` as a VDI; each disk is the parent of the one before it."""

    def __init__(self, client: "VirtualBox", chain: Sequence[Path]) -> None:
        """Check the files of the chain. Raises B2dError."""
        self._client = client
        self._path = chain[0]
        with translate_errors():
            _ = client.root  # without VirtualBox, no file is opened
        _check_chain(chain)
        with self._medium() as medium:
            files = _files(medium)
            if foreign_files := sorted(str(file) for file in files if not _is_among(file, chain)):
                message = f"{self._path} is based on disks that are not in the machine's settings"
                raise B2dError(message, details="\n".join(foreign_files))
            self.size = int(medium.logical_size)
            self._room = sum(file.stat().st_size for file in files)

    def room(self) -> int:
        """Return the number of bytes that the copy needs at most."""
        return self._room

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of the disk's content from `offset`. Raises B2dError."""
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
        """Write the copy to `target`; call `advance` with the number of bytes of each step. Raises B2dError."""
        library = self._client.pyvbox.library
        with self._medium() as medium:
            disk = self._client.root.create_medium(
                "VDI", str(target), library.AccessMode.read_write, library.DeviceType.hard_disk
            )
            progress = None
            try:
                # a disk could not be released while it is created, or copied without a progress
                with signals_deferred():
                    # VirtualBox would add a target that does not exist yet to the original's settings (seen on 7.2)
                    wait_for_progress(
                        disk.create_base_storage(self.size, [library.MediumVariant.standard]), "the disk", MIN_TIMEOUT_S
                    )
                    progress = medium.clone_to_base(disk, [library.MediumVariant.standard])
                self._follow(progress, advance)
            except BaseException:
                if progress is not None and not progress.completed:
                    progress.cancel()
                    wait_until(
                        lambda: bool(progress.completed),
                        condition="VirtualBox to release the disk",
                        timeout_s=MIN_TIMEOUT_S,
                    )
                raise
            finally:
                disk.close()  # the file stays, and is opened again when it is attached

    def _follow(self, progress: Any, advance: Callable[[int], None]) -> None:
        done = 0

        def is_completed() -> bool:
            nonlocal done
            now = self.size * int(progress.percent) // 100
            advance(now - done)
            done = now
            return bool(progress.completed)

        limit_s = MIN_TIMEOUT_S + self.size / SLOWEST
        wait_until(is_completed, condition="VirtualBox to copy the disk", timeout_s=limit_s, interval_s=0.1)
        wait_for_progress(progress, "the disk", MIN_TIMEOUT_S)

    @contextmanager
    def _medium(self) -> Iterator[Any]:
        """Open the disk unchangeably; VirtualBox knows it afterwards only if it did before."""
        library = self._client.pyvbox.library
        with translate_errors():
            before = {str(disk.location) for disk in self._client.root.hard_disks}
            medium = self._client.root.open_medium(
                str(self._path), library.DeviceType.hard_disk, library.AccessMode.read_only, False
            )
            try:
                medium.refresh_state()
                yield medium
            finally:
                if not medium.machine_ids and str(medium.location) not in before:
                    medium.close()


class FlattenedDisk(MediumCopy):
    """A copy as a qcow2: VirtualBox merges the layers, and qemu-img converts the result."""

    def room(self) -> int:
        """Return the bytes for both copies."""
        return 2 * super().room()

    def copy(self, target: Path, advance: Callable[[int], None]) -> None:
        """Write the copy to `target` by way of a temporary VDI beside it."""
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
            raise B2dError(f"{path} is a symbolic link, and is not followed")
        if (kind := check_disk(path, child=number < len(chain) - 1)) not in KINDS:
            raise B2dError(f"b2d cannot copy the disk {path} of format {kind}")


def _files(medium: Any) -> list[Path]:
    """Return the files of all layers."""
    files, raw = [], medium._i  # pyvbox wraps a missing parent too
    while raw is not None:
        files.append(Path(str(raw.location)))
        raw = raw.parent
    return files


def _is_among(file: Path, chain: Sequence[Path]) -> bool:
    try:
        return any(file.samefile(path) for path in chain)
    except OSError:
        return False
