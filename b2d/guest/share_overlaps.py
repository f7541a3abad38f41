"""Folders that lie in one another: what a machine may write decides what else it could have.

In a folder that it can write, root in the guest can put a link in the place of another folder that is to be shared, and
at the next boot that link would be followed; and what lies there is not read-only because it is shared so once more.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from b2d.guest import folder_paths

MOST_LINKS = 40  # as Linux follows


def refusals(shared: Sequence[str]) -> dict[str, str]:
    """Return why each of these folders, as folders.parse() reads them, cannot be had beside the others."""
    parsed = {text: folder_paths.parse(text) for text in shared}
    writable = [os.path.realpath(one.host) for one in parsed.values() if not one.read_only]
    found = {text: _refusal(one, writable) for text, one in parsed.items()} if writable else {}
    return {text: reason for text, reason in found.items() if reason}


def _refusal(folder: folder_paths.Folder, writable: Sequence[str]) -> str:
    real = os.path.realpath(folder.host)
    above = next((place for place in writable if folder.read_only and is_within(real, place)), "")
    if above:
        return f"it cannot be read-only, as it lies in {above}, which the machine can write"
    for link in _links(folder.host):
        if any(is_within(link.parent, place) for place in writable):
            return f"{link} is a link that the machine could have made"
    return ""


def _links(path: str) -> Iterator[Path]:
    """Yield each link that is followed on the way to a folder, by its place without links."""
    start = PurePath(os.path.abspath(path))  # noqa: PTH100  pathlib's keeps `..`
    here, left, followed = Path(start.anchor), list(start.parts[1:]), 0
    while left:
        name = left.pop(0)
        one = here.parent if name == ".." else here / name
        if not one.is_symlink():
            here = one
            continue
        followed += 1
        if followed > MOST_LINKS:  # nobody else would follow them either
            return
        yield one
        target = one.readlink()
        here = Path(target.anchor) if target.is_absolute() else here
        left = [*(target.parts[1:] if target.is_absolute() else target.parts), *left]


def is_within(path: str | Path, folder: str | Path) -> bool:
    """True when `path` is the folder or lies in it, by what they are: names may differ in case, or be links."""
    real, above = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if real.is_relative_to(above):
        return True
    wanted = _identity(above)
    return wanted is not None and any(_identity(one) == wanted for one in (real, *real.parents))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)
