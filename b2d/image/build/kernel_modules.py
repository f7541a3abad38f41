"""Kernel modules with their dependencies, and the indexes that modprobe reads."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from b2d.errors import B2dError
from b2d.formats import compression
from b2d.image.build.fs_tree import Tree, file

MODULE_LIMIT = 128 << 20  # bytes; the largest of Debian's has about 10 MB
SIGNATURE = b"~Module signature appended~\n"  # include/linux/module_signature.h
SIGNATURE_INFO = 12  # bytes before it; the last four are the length of the signature, big-endian


@dataclass(frozen=True, slots=True)
class Module:
    """A module, decompressed and without its signature: checking that costs every boot more than a second."""

    name: str
    path: str  # in the tree, ending in .ko
    content: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


class Modules:
    """All modules of one kernel; only those that are used are decompressed."""

    def __init__(self, tree: Tree, version: str) -> None:
        """Find the modules of a kernel in a tree; `version` is that of uname -r."""
        self.tree = tree
        self.version = version
        prefix = f"{self.folder}/"
        self._paths = {module_name(path): path for path, _ in tree if path.startswith(prefix) and ".ko" in path}
        builtin = tree[prefix + "modules.builtin"].content.decode()
        self._builtin = {module_name(line) for line in builtin.splitlines()}
        self._read: dict[str, Module] = {}

    @property
    def folder(self) -> str:
        """The folder of the modules, as a path in the tree."""
        return f"usr/lib/modules/{self.version}"

    def with_dependencies(self, names: Iterable[str]) -> list[Module]:
        """Return the modules and their dependencies, each after its own. Raises B2dError."""
        ordered: dict[str, Module] = {}
        for name in names:
            self._add(name, ordered)
        return list(ordered.values())

    def _add(self, name: str, ordered: dict[str, Module]) -> None:
        name = name.replace("-", "_")
        if name in ordered or name in self._builtin:
            return
        if name not in self._paths:
            raise B2dError(f"the kernel {self.version} has no module {name}")
        module = self._module(name)
        for dependency in module.depends:
            self._add(dependency, ordered)
        ordered[name] = module

    def _module(self, name: str) -> Module:
        if name not in self._read:
            path = self._paths[name]
            content = self.tree[path].content
            if path.endswith(".xz"):
                content = _decompress(path, content)
            info = list(_modinfo(content))
            self._read[name] = Module(
                name=name,
                path=path.removesuffix(".xz"),
                content=strip_signature(content),
                depends=tuple(part for key, value in info if key == "depends" for part in value.split(",") if part),
                aliases=tuple(value for key, value in info if key == "alias"),
            )
        return self._read[name]


def _decompress(path: str, content: bytes) -> bytes:
    try:
        return compression.unxz(content, MODULE_LIMIT)
    except compression.DecompressionError as error:
        raise B2dError(f"the kernel module {path} cannot be unpacked: {error}") from error


def module_name(path: str) -> str:
    """Return the kernel's name of the module in a file."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def strip_signature(content: bytes) -> bytes:
    """Return a module without the signature at its end."""
    if not content.endswith(SIGNATURE):
        return content
    end = len(content) - len(SIGNATURE)
    length = int.from_bytes(content[end - 4 : end], "big")
    return content[: end - SIGNATURE_INFO - length]


def install(modules: Modules, wanted: list[Module], tree: Tree) -> None:
    """Add modules and their indexes to a tree."""
    for module in wanted:
        tree.put(module.path, file(module.content))
    prefix = f"{modules.folder}/"
    paths = {module.name: module.path.removeprefix(prefix) for module in wanted}
    depends = [
        f"{paths[module.name]}: {' '.join(paths[other.name] for other in _dependencies(modules, module))}".rstrip()
        for module in wanted
    ]
    aliases = [f"alias {alias} {module.name}" for module in wanted for alias in module.aliases]
    for name, lines in (("modules.dep", depends), ("modules.alias", aliases)):
        tree.put(prefix + name, file("".join(line + "\n" for line in sorted(lines)).encode()))
    for name in ("modules.builtin", "modules.order"):
        tree.put(prefix + name, file(modules.tree[prefix + name].content))
    tree.put(prefix + "modules.symbols", file(b""))


def _dependencies(modules: Modules, module: Module) -> list[Module]:
    """Return the dependencies of a module, the nearest first, as depmod writes them."""
    return modules.with_dependencies([module.name])[-2::-1]


def _modinfo(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield the pairs key=value of the section .modinfo."""
    from elftools.elf.elffile import ELFFile

    section = ELFFile(io.BytesIO(content)).get_section_by_name(".modinfo")
    for line in section.data().split(b"\0") if section is not None else ():
        key, _, value = line.decode(errors="replace").partition("=")
        if key:
            yield key, value
