"""What is in an image: every package with its version, hash and licences."""

import json
import re
from collections.abc import Sequence
from typing import Any

from b2d.image.archive import Package
from b2d.image.tree import Tree

LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)  # of a machine-readable copyright file
COMMON = re.compile(r"/usr/share/common-licenses/([\w.-]*\w)")  # what an older one, all prose, points to


def describe(
    version: str, architecture: str, mtime: int, packages: Sequence[Package], trees: Sequence[Tree]
) -> dict[str, Any]:
    """The manifest; `trees` must still hold the packages' copyright files."""
    return {
        "format": 1,
        "version": version,
        "architecture": architecture,
        "newest_file": mtime,
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


def written(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def _licences(name: str, trees: Sequence[Tree]) -> list[str]:
    """The short names that the copyright file gives; it may lie in another package of the same source."""
    path = f"usr/share/doc/{name}/copyright"
    text = next((tree[path].content.decode(errors="replace") for tree in trees if path in tree), None)
    if text is None:
        return ["see its source package"]
    found = {match.strip() for match in LICENCE.findall(text) or COMMON.findall(text)}
    return sorted(found) or ["see its copyright file"]
