"""Checks for leftovers in the home: files of a killed b2d, abandoned downloads, unused images, incomplete machines."""

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from b2d import machine_names
from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.doctor.machines import DAY_S
from b2d.drivers.qemu.templates import LEFTOVER, Templates
from b2d.image import boot_files
from b2d.image.base import ImageLookup
from b2d.image.source import DEBIAN
from b2d.machine_names import command_for
from b2d.machine_store.own_files import MACHINE
from b2d.models import Image, MachineSpec
from b2d.paths import Home

SHOWN = 3  # names in one line
DRAFT = r"\.[a-z0-9_]{8}"  # the suffix that files.write_atomic and tempfile append to a name
SETTINGS = re.compile(rf"\.config(?:\.draft)?\.toml{DRAFT}")
DOWNLOADS = re.compile(rf"[0-9a-f]{{32,64}}\.(?:part|mark|iso)|\.b2d-[a-z0-9_]{{8}}|\.[\w.]+{DRAFT}")


def check_stale_files(where: Home, now: float) -> Finding:
    """Find temporary files that have not been modified for a day."""
    stale = tuple(path for path in _unfinished(where) if _is_older(path, now - DAY_S))
    if not stale:
        return ok("stale files", "none")
    size = sum(_size(path) for path in stale) / (1 << 20)
    return Finding(
        "stale files", Verdict.DOUBTFUL, f"{_names(stale)}: {size:.1f} MiB", "b2d doctor --fix", left_files=stale
    )


def _unfinished(where: Home) -> Iterator[Path]:
    """Yield the files named as b2d names its temporary files; other files in the home are the user's."""
    for folder, pattern in (
        (where.root, SETTINGS),
        (where.images, boot_files.LEFTOVER),
        (where.cache, DOWNLOADS),
        (where.templates, LEFTOVER),
    ):
        yield from (path for path in _inside(folder) if pattern.fullmatch(path.name))
    for machine in _inside(where.machines):
        if not machine.name.startswith(".") and not machine.is_symlink():
            yield from (path for path in _inside(machine) if path.name.startswith(".") and path.name in MACHINE)


def _inside(folder: Path) -> list[Path]:
    """Return a folder's entries; none when it is unreadable or no folder."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def check_images(
    machines: Sequence[MachineSpec | None] | None, spare: Callable[[Collection[str]], list[Image]]
) -> Finding:
    """Find images that no machine uses, used before or would get; None stands for an unreadable machine, or all."""
    known = [spec for spec in machines or () if spec is not None]
    if machines is None or len(known) < len(machines):
        return ok("images", "not checked, as a machine cannot be read")
    used = {spec.image for spec in known} | {spec.previous for spec in known}
    unused = spare(used)
    if not unused:
        return ok("images", "all in use")
    size = sum(image.size for image in unused) / (1 << 20)
    versions = ", ".join(image.version for image in unused)
    message = f"no machine uses {versions}: {size:.1f} MiB"
    left = tuple(image.sha256 for image in unused)
    return Finding("images", Verdict.DOUBTFUL, message, "b2d doctor --fix", left_images=left)


def check_templates(where: Home, images: ImageLookup) -> Finding:
    """Find templates that no machine can start from: of images that are no longer stored, and failed ones."""
    templates = Templates(where.templates)
    records = templates.all()
    stored = {image.system for image in images.all()}
    refused = {key: record for key, record in records.items() if record.refused}
    stale = [key for key, record in records.items() if not record.refused and record.image not in stored]
    size = sum(record.size for record in records.values()) / (1 << 20)
    left = tuple(path for key in (*refused, *stale) for path in templates.files(key) if path.exists())
    if refused:
        reason = next(iter(refused.values())).refused
        message = f"machines boot without one for a day: {reason}"
    elif stale:
        message = f"{len(stale)} of images that are no longer stored"
    else:
        return ok("templates", f"{len(records)}: {size:.1f} MiB" if records else "none")
    return Finding("templates", Verdict.DOUBTFUL, message, "b2d doctor --fix", left_files=left)


def check_debian_image(find: Callable[[str], Image | None]) -> Iterator[Finding]:
    """Check how recent the newest stored image of Debian's packages is, if its manifest says so."""
    image = find(DEBIAN)
    if image is None or not image.suites:
        return
    if image.lacks:
        message = f"{image.version}, of {image.date}, may lack security updates: {', '.join(image.lacks)}"
        yield warning("debian image", message, "b2d download debian")
    else:
        yield ok("debian image", f"{image.version}, from all suites as of {image.date}")


def find_incomplete_machines(where: Home) -> Iterator[Finding]:
    """Find machine folders without machine.json; they may contain data, so nothing is removed."""
    try:
        folders = sorted(path for path in where.machines.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return
    for folder in folders:
        paths, name = where.machine(folder.name), folder.name
        try:
            if paths.spec.exists():
                continue
            disk = paths.disk_qcow2.exists() or paths.disk_vdi.exists()
        except OSError as error:
            yield warning("machine", f"{folder}: {error.strerror}", f"ls -ld {shlex.quote(str(folder))}", name)
            continue
        message = f"{folder} has no {paths.spec.name}"
        if not machine_names.is_valid(name):
            yield warning("machine", f"{folder} is not a machine", f"ls -l {shlex.quote(str(folder))}", name)
        elif disk:
            yield warning("machine", f"{message}, but a disk, which init uses", command_for("init", name), name)
        else:
            yield warning("machine", message, command_for("delete", name), name)


def _is_older(path: Path, time: float) -> bool:
    try:
        return path.lstat().st_mtime < time
    except OSError:
        return False


def _size(path: Path) -> int:
    with suppress(OSError):
        if path.is_dir():
            return sum(_size(inside) for inside in path.iterdir())
        return path.lstat().st_size
    return 0


def _names(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(map(str, paths[:SHOWN])) + more
