"""What is in an image: every package with its version, hash and licences."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from b2d.formats.iso_files import read_file
from b2d.formats.json_text import parse
from b2d.image.build.apt_repository import Package, checked_version
from b2d.image.build.fs_tree import Tree
from b2d.models import Suite

PATH = "/b2d/manifest.json"  # in an image
KERNEL = re.compile(r"^linux-image-\d.*")

LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)  # of a machine-readable copyright file
COMMON = re.compile(r"/usr/share/common-licenses/([\w.-]*\w)")  # what an older one, all prose, points to


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image is as a whole; nothing in it is newer than `mtime` (Unix time)."""

    version: str
    architecture: str
    mtime: int
    suites: tuple[Suite, ...]


def describe(about: ImageInfo, packages: Sequence[Package], trees: Sequence[Tree]) -> dict[str, Any]:
    """Return the manifest; `trees` must still hold the packages' copyright files."""
    return {
        "format": 1,
        "version": about.version,
        "architecture": about.architecture,
        "newest_file": about.mtime,
        "suites": [asdict(suite) for suite in about.suites],
        "packages": [
            {
                "name": package.name,
                "version": package.version,
                "sha256": package.file.sha256,
                "url": package.file.url.rpartition("/pool/")[2],
                "licence": _licences(package.name, trees),
            }
            for package in sorted(packages, key=lambda package: package.name)
        ],
    }


def render(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def versions(iso: Path, suite: str) -> dict[str, str]:
    """Return the version of each package of an image, by name; none where it is of another suite, or does not say."""
    try:
        found = parse(read_file(iso, PATH) or b"")
        suites = [one["name"] for one in found.get("suites", ())]
        said = [(str(one["name"]), str(one["version"])) for one in found["packages"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    listed = [(name, version) for name, version in said if _is_version(version)]
    return by_name(listed) if not suites or suite in suites else {}


def _is_version(text: str) -> bool:
    """Tell whether Debian's own comparison can take it."""
    try:
        checked_version(text)
    except ValueError:
        return False
    return True


def by_name(packages: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return name: version; a kernel's package, whose name holds its version, under the name without it."""
    return {KERNEL.sub("linux-image", name): version for name, version in packages}


def _licences(name: str, trees: Sequence[Tree]) -> list[str]:
    """The short names that the copyright file gives; it may lie in another package of the same source."""
    path = f"usr/share/doc/{name}/copyright"
    text = next((tree[path].content.decode(errors="replace") for tree in trees if path in tree), None)
    if text is None:
        return ["see its source package"]
    found = {match.strip() for match in LICENCE.findall(text) or COMMON.findall(text)}
    return sorted(found) or ["see its copyright file"]
