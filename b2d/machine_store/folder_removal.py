"""Remove a machine's folder: b2d's own files by name; other files stay, and are reported."""

from pathlib import Path

from b2d.host.file_removal import SET_ASIDE, move_aside, remove, remove_own
from b2d.machine_store.own_files import MACHINE
from b2d.paths import MachinePaths


def is_own_file(folder: Path) -> bool:
    """Return whether `delete` would remove anything there: a file of b2d's, or something that is no folder."""
    if folder.is_symlink() or not folder.is_dir():
        return True
    try:
        return any(path.name in MACHINE for path in folder.iterdir())
    except PermissionError:  # unknown, so it is listed
        return True


def remove_machine(paths: MachinePaths) -> list[str]:
    """Remove a machine's files, its spec first, and return a sentence on each thing that stays. Raises OSError.

    Of a folder that is a link only the link is removed, and nothing at its target.
    """
    folder = paths.folder
    if folder.is_symlink():
        target = folder.readlink()
        remove(folder)
        return [f"{folder} was a link; its target is unchanged: {target}"]
    if not folder.is_dir():
        remove(folder)
        return []
    moved = [remark for path in (paths.spec_copy, paths.spec) if (remark := _make_way(path, paths))]
    for name in remove_own(folder, MACHINE):
        if name in MACHINE:
            moved.append(_make_way(folder / name, paths))
    remaining = remove_own(folder, MACHINE)
    stays = [f"{folder} is not removed, since it contains files of others: {', '.join(remaining)}"] if remaining else []
    return moved + stays


def _make_way(path: Path, paths: MachinePaths) -> str:
    """Remove the path; return a sentence on where a folder with content was moved, "" for none."""
    target = move_aside(path, paths.home / SET_ASIDE)
    return (
        f"{path.name} of {paths.folder.name} was a folder with files in it, which was moved to {target}"
        if target
        else ""
    )
