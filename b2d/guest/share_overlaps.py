"""Refuse shared folders whose overlap would widen a machine's access.

In a folder that it can write, root in the guest can replace another shared folder by a link, which would be followed at
the next boot; and sharing a folder read-only has no effect when it lies in a writable one.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from b2d.guest import folder_paths

MOST_LINKS = 40  # the limit of Linux


def refusals(shared: Sequence[str]) -> dict[str, str]:
    """Return the reason for each folder, in the form of folder_paths.parse(), that cannot be shared with the others."""
    parsed = {text: folder_paths.parse(text) for text in shared}
    writable = [os.path.realpath(folder.host) for folder in parsed.values() if not folder.read_only]
    reasons = {text: _refusal(folder, writable) for text, folder in parsed.items()} if writable else {}
    return {text: reason for text, reason in reasons.items() if reason}


def _refusal(folder: folder_paths.Folder, writable: Sequence[str]) -> str:
    real = os.path.realpath(folder.host)
    above = next((place for place in writable if folder.read_only and is_within(real, place)), "")
    if above:
        return f"it cannot be read-only inside {above}, which the machine can write"
    for link in _links(folder.host):
        if any(is_within(link.parent, place) for place in writable):
            return f"{link} is a link that the machine could have made"
    return ""


def _links(path: str) -> Iterator[Path]:
    """Yield each link that is followed on the path of a folder, with its own parents resolved."""
    start = PurePath(os.path.abspath(path))  # noqa: PTH100  pathlib's keeps `..`
    resolved, rest, followed = Path(start.anchor), list(start.parts[1:]), 0
    while rest:
        name = rest.pop(0)
        path_so_far = resolved.parent if name == ".." else resolved / name
        if not path_so_far.is_symlink():
            resolved = path_so_far
            continue
        followed += 1
        if followed > MOST_LINKS:  # nothing else would follow them either
            return
        yield path_so_far
        target = path_so_far.readlink()
        resolved = Path(target.anchor) if target.is_absolute() else resolved
        rest = [*(target.parts[1:] if target.is_absolute() else target.parts), *rest]


def is_within(path: str | Path, folder: str | Path) -> bool:
    """Return whether `path` is the folder or lies in it, by identity: names may differ in case, or be links."""
    real, above = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if real.is_relative_to(above):
        return True
    identity = _identity(above)
    return identity is not None and any(_identity(parent) == identity for parent in (real, *real.parents))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino)
