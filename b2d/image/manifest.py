"""What is in an image: every package with its version, hash and licences."""

import json
import re
from collections.abc import Sequence
from typing import Any

from b2d.image.archive import Package
from b2d.image.tree import Tree

LICENCE = re.compile(r"^License:[ \t]*(\S.*)$", re.MULTILINE)  # of a machine-readable copyright file


def describe(version: str, architecture: str, mtime: int, packages: Sequence[Package], tree: Tree) -> dict[str, Any]:
    """The manifest; `tree` must still hold the packages' copyright files."""
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
                "licence": _licences(package.name, tree),
            }
            for package in sorted(packages, key=lambda package: package.name)
        ],
    }


def written(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def _licences(name: str, tree: Tree) -> list[str]:
    """The short names that the copyright file gives; an older file is only prose, and named so."""
    path = f"usr/share/doc/{name}/copyright"
    if path not in tree:
        return ["see its source package"]
    found = {match.strip() for match in LICENCE.findall(tree[path].content.decode(errors="replace"))}
    return sorted(found) or ["see its copyright file"]
