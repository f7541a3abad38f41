"""The manifest of an image: every package with its version, hash and licences."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2d.formats.iso_files import read_file
from b2d.formats.json_text import parse
from b2d.image.build.apt_repository import Package, checked_version
from b2d.image.build.fs_tree import Tree
from b2d.models import Suite

PATH = "/b2d/manifest.json"  # in the image
KERNEL = re.compile(r"^linux-image-\d.*")

LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)  # of a machine-readable copyright file
COMMON = re.compile(r"/usr/share/common-licenses/([\w.-]*\w)")  # of an older copyright file, which is prose


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image as a whole; no file in it is newer than `mtime` (Unix time)."""

    version: str
    architecture: str
    mtime: int
    suites: tuple[Suite, ...]


def describe(info: ImageInfo, packages: Sequence[Package], trees: Sequence[Tree]) -> dict[str, Any]:
    """Return the manifest; `trees` must still contain the packages' copyright files."""
    return {
        "format": 1,
        "version": info.version,
        "architecture": info.architecture,
        "newest_file": info.mtime,
        "suites": [suite._asdict() for suite in info.suites],
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
    """Return the manifest as JSON."""
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def read_versions(iso: Path, suite: str) -> dict[str, str]:
    """Return the version of each package of an image, by name.

    Empty for an image of another suite and for one without a readable manifest.
    """
    try:
        manifest = parse(read_file(iso, PATH) or b"")
        suites = [entry["name"] for entry in manifest.get("suites", ())]
        packages = [(str(entry["name"]), str(entry["version"])) for entry in manifest["packages"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    valid = [(name, version) for name, version in packages if _is_version(version)]
    return versions_by_name(valid) if not suites or suite in suites else {}


def _is_version(text: str) -> bool:
    """Return whether Debian's own comparison accepts the version."""
    try:
        checked_version(text)
    except ValueError:
        return False
    return True


def versions_by_name(packages: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return versions by package name; a kernel package, whose name contains its version, as linux-image."""
    return {KERNEL.sub("linux-image", name): version for name, version in packages}


def _licences(name: str, trees: Sequence[Tree]) -> list[str]:
    """Return the licences' short names from a package's copyright file.

    That file may be in another package of the same source.
    """
    path = f"usr/share/doc/{name}/copyright"
    text = next((tree[path].content.decode(errors="replace") for tree in trees if path in tree), None)
    if text is None:
        return ["see its source package"]
    licences = {match.strip() for match in LICENCE.findall(text) or COMMON.findall(text)}
    return sorted(licences) or ["see its copyright file"]
