"""A file system in memory, as packages and images contain it; building it needs no privileges."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from b2d.errors import B2dError

# Packages may still use these paths, which usr-merge turned into links to usr.
MERGED = ("bin", "sbin", "lib", "lib64")


class Kind(Enum):
    """The kind of a node. An image needs no others: the kernel creates devices."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Node:
    """A file, folder or link. Everything in an image belongs to root; the boot sets the user's ownership."""

    kind: Kind
    mode: int  # permission bits
    content: bytes = b""
    target: str = ""  # of a link


def file(content: bytes, mode: int = 0o644) -> Node:
    """Return a file node."""
    return Node(Kind.FILE, mode, content)


def folder(mode: int = 0o755) -> Node:
    """Return a folder node."""
    return Node(Kind.FOLDER, mode)


def link(target: str) -> Node:
    """Return a symbolic link node."""
    return Node(Kind.LINK, 0o777, target=target)


def normalize(path: str) -> str:
    """Return a path as Tree stores it: without leading dots and slashes, and with usr-merge's folders in usr."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if parts and parts[0] in MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


@dataclass(slots=True)
class Tree:
    """Nodes by their path; every folder above a node is in it too."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def __contains__(self, path: str) -> bool:
        """Return whether there is a node at the path."""
        return path in self.nodes

    def __getitem__(self, path: str) -> Node:
        """Return the node at the path. Raises B2dError where there is none."""
        if path not in self.nodes:
            raise B2dError(f"no package provides {path}, which the recipe requires", hint="upgrade b2d")
        return self.nodes[path]

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        """Yield every node, each folder before its content."""
        yield from sorted(self.nodes.items())

    def put(self, path: str, node: Node) -> None:
        """Add or replace a node; a folder that exists keeps its content. Raises B2dError below a file or link."""
        if not path:
            return
        for parent in _parents(path):
            if self.nodes.setdefault(parent, folder()).kind is not Kind.FOLDER:
                raise B2dError(f"{path} cannot be created: {parent} is not a folder")
        self.nodes[path] = node

    def change_mode(self, path: str, mode: int) -> None:
        """Set the permission bits of a node. Raises B2dError where there is none."""
        self.nodes[path] = replace(self[path], mode=mode)

    def remove(self, pattern: str) -> int:
        """Remove the nodes that match the pattern of fnmatch, and return their number."""
        matching = {path for path in self.nodes if fnmatchcase(path, pattern)}
        for path in matching:
            del self.nodes[path]
        return len(matching)

    def prune(self) -> None:
        """Remove empty folders."""
        occupied: set[str] = set()
        for path, node in sorted(self.nodes.items(), reverse=True):
            if node.kind is Kind.FOLDER and path not in occupied:
                del self.nodes[path]
            else:
                occupied.update(_parents(path))


def _parents(path: str) -> list[str]:
    """Return the folders above a path, the nearest first."""
    return [str(parent) for parent in PurePosixPath(path).parents][:-1]
