"""A file system in memory: what a package brings, what an image holds, without a right to anything."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from b2d.errors import B2dError

# Debian's packages may still name the folders that usr-merge made links of.
MERGED = ("bin", "sbin", "lib", "lib64")


class Kind(Enum):
    """What a node is. An image needs no more kinds: devices are the kernel's matter."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Node:
    """One file, folder or link. Everything in an image is root's; the boot gives the person what is theirs."""

    kind: Kind
    mode: int  # permission bits
    content: bytes = b""
    target: str = ""  # of a link


def file(content: bytes, mode: int = 0o644) -> Node:
    return Node(Kind.FILE, mode, content)


def folder(mode: int = 0o755) -> Node:
    return Node(Kind.FOLDER, mode)


def link(target: str) -> Node:
    return Node(Kind.LINK, 0o777, target=target)


def normalize(path: str) -> str:
    """A path as it is kept: without leading dots and slashes, and with usr-merge's folders in usr."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if parts and parts[0] in MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


@dataclass(slots=True)
class Tree:
    """Nodes by their path; every folder above a node is there too."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def __contains__(self, path: str) -> bool:
        return path in self.nodes

    def __getitem__(self, path: str) -> Node:
        """The node. Raises B2dError where there is none."""
        if path not in self.nodes:
            raise B2dError(f"no package brings {path}, which the recipe asks for", hint="upgrade b2d")
        return self.nodes[path]

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Every node, each folder before what is in it."""
        yield from sorted(self.nodes.items())

    def put(self, path: str, node: Node) -> None:
        """Add a node, or replace the one there; a folder that is there already keeps what is in it."""
        if not path:
            return
        for parent in _above(path):
            if self.nodes.setdefault(parent, folder()).kind is not Kind.FOLDER:
                raise B2dError(f"{path} cannot be put into {parent}, which is no folder")
        self.nodes[path] = node

    def change_mode(self, path: str, mode: int) -> None:
        self.nodes[path] = replace(self[path], mode=mode)

    def remove(self, pattern: str) -> int:
        """Remove what matches, with all that is in it; how many nodes that were."""
        gone = {path for path in self.nodes if fnmatchcase(path, pattern)}
        for path in gone:
            del self.nodes[path]
        return len(gone)

    def prune(self) -> None:
        """Remove folders that hold nothing."""
        held: set[str] = set()
        for path, node in sorted(self.nodes.items(), reverse=True):
            if node.kind is Kind.FOLDER and path not in held:
                del self.nodes[path]
            else:
                held.update(_above(path))


def _above(path: str) -> list[str]:
    """The folders that a path lies in."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]
