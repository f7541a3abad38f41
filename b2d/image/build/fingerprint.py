"""A hash of all that an image is made of: the same recipe, builder and packages give the same bytes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from b2d.formats import iso_writer
from b2d.image.build import squashfs
from b2d.image.build.apt_repository import Package
from b2d.models import Suite


def fingerprint(recipe: Path, packages: Sequence[Package], suites: Sequence[Suite] = ()) -> str:
    """Return the hash; `recipe` is the recipe's folder, and mksquashfs on this host counts too.

    Of the suites only their state counts (stale or missing), not their dates: those change several times a day.
    """
    digest = hashlib.sha256(b"squashfs" if squashfs.is_available() else b"cpio")
    for package in sorted(packages, key=lambda package: package.name):
        digest.update(package.file.sha256.encode())
    for suite in suites:
        digest.update(f"{suite.name} {suite.state}\n".encode())
    sources = [Path(str(iso_writer.__file__)), *Path(__file__).parent.glob("*.py"), *recipe.rglob("*")]
    for path in sorted(path for path in sources if path.is_file()):
        digest.update(f"\0{path}\0{path.stat().st_mode & 0o777:o}\0".encode() + path.read_bytes())
    return digest.hexdigest()
