"""Remove a machine's folder: b2d's own files by their names; whatever else is there stays, and is named."""

from pathlib import Path

from b2d.host.file_removal import SET_ASIDE, move_aside, remove, remove_own
from b2d.machine_store.own_files import MACHINE
from b2d.paths import MachinePaths


def is_own_file(folder: Path) -> bool:
    """Tell whether something lies there that `delete` would remove: a file of b2d's, or what is no folder at all."""
    if folder.is_symlink() or not folder.is_dir():
        return True
    try:
        return any(path.name in MACHINE for path in folder.iterdir())
    except PermissionError:  # nobody can tell, so it is named, and not passed over
        return True


def remove_machine(paths: MachinePaths) -> list[str]:
    """Remove what is left of a machine, its spec first; return a sentence on each thing that stays. Raises OSError.

    A folder that is a link leads to wherever somebody has made it lead: the link is removed, and nothing behind it.
    """
    folder = paths.folder
    if folder.is_symlink():
        target = folder.readlink()
        remove(folder)
        return [f"{folder} was a link, and what it leads to stays as it is: {target}"]
    if not folder.is_dir():
        remove(folder)
        return []
    moved = [remark for path in (paths.spec_copy, paths.spec) if (remark := _moved(path, paths))]
    for name in remove_own(folder, MACHINE):
        if name in MACHINE:
            moved.append(_moved(folder / name, paths))
    left = remove_own(folder, MACHINE)
    stays = [f"{folder} stays, since it holds what is not b2d's: {', '.join(left)}"] if left else []
    return moved + stays


def _moved(path: Path, paths: MachinePaths) -> str:
    """Make way there; a sentence on where a folder is now that had something in it, "" where there was none."""
    place = move_aside(path, paths.home / SET_ASIDE)
    return (
        f"{path.name} of {paths.folder.name} was a folder with something in it, which is kept: {place}" if place else ""
    )
