"""Kernel modules: those that are wanted with what they depend on, and the indexes that modprobe reads."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from b2d.errors import B2dError
from b2d.formats import compression
from b2d.image.build.fs_tree import Tree, file

MODULE_LIMIT = 128 << 20  # bytes; the largest of Debian's has about 10 MB
SIGNATURE = b"~Module signature appended~\n"  # include/linux/module_signature.h
SIGNATURE_FACTS = 12  # bytes before it; the last four are the length of the signature, big-endian


@dataclass(frozen=True, slots=True)
class Module:
    """One module, unpacked and without its signature: checking that costs every boot more than a second."""

    name: str
    path: str  # in the tree, ending in .ko
    content: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


class Modules:
    """All modules of one kernel; only what is asked for is unpacked."""

    def __init__(self, tree: Tree, version: str) -> None:
        """Look through a tree for the modules of a kernel; `version` as uname -r says it."""
        self.tree = tree
        self.version = version
        here = f"{self.folder}/"
        self._paths = {module_name(path): path for path, _ in tree if path.startswith(here) and ".ko" in path}
        builtin = tree[here + "modules.builtin"].content.decode()
        self._builtin = {module_name(line) for line in builtin.splitlines()}
        self._read: dict[str, Module] = {}

    @property
    def folder(self) -> str:
        return f"usr/lib/modules/{self.version}"

    def with_dependencies(self, names: Iterable[str]) -> list[Module]:
        """The modules and what they depend on, each after its dependencies. Raises B2dError."""
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
                content = _unpacked(path, content)
            info = list(_modinfo(content))
            self._read[name] = Module(
                name=name,
                path=path.removesuffix(".xz"),
                content=unsigned(content),
                depends=tuple(part for key, value in info if key == "depends" for part in value.split(",") if part),
                aliases=tuple(value for key, value in info if key == "alias"),
            )
        return self._read[name]


def _unpacked(path: str, content: bytes) -> bytes:
    try:
        return compression.unxz(content, MODULE_LIMIT)
    except compression.DecompressionError as error:
        raise B2dError(f"the kernel's module {path} cannot be unpacked: {error}") from error


def module_name(path: str) -> str:
    """The name by which the kernel knows the module of a file."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def unsigned(content: bytes) -> bytes:
    """A module without the signature at its end."""
    if not content.endswith(SIGNATURE):
        return content
    end = len(content) - len(SIGNATURE)
    length = int.from_bytes(content[end - 4 : end], "big")
    return content[: end - SIGNATURE_FACTS - length]


def install(modules: Modules, wanted: list[Module], tree: Tree) -> None:
    """Put the modules and the indexes into the tree."""
    for module in wanted:
        tree.put(module.path, file(module.content))
    here = f"{modules.folder}/"
    paths = {module.name: module.path.removeprefix(here) for module in wanted}
    depends = [
        f"{paths[module.name]}: {' '.join(paths[other.name] for other in _needed(modules, module))}".rstrip()
        for module in wanted
    ]
    aliases = [f"alias {alias} {module.name}" for module in wanted for alias in module.aliases]
    for name, lines in (("modules.dep", depends), ("modules.alias", aliases)):
        tree.put(here + name, file("".join(line + "\n" for line in sorted(lines)).encode()))
    for name in ("modules.builtin", "modules.order"):
        tree.put(here + name, file(modules.tree[here + name].content))
    tree.put(here + "modules.symbols", file(b""))


def _needed(modules: Modules, module: Module) -> list[Module]:
    """What has to be there before the module, the nearest first, as depmod writes it."""
    return modules.with_dependencies([module.name])[-2::-1]


def _modinfo(content: bytes) -> Iterator[tuple[str, str]]:
    """The lines key=value of the section .modinfo."""
    from elftools.elf.elffile import ELFFile

    section = ELFFile(io.BytesIO(content)).get_section_by_name(".modinfo")
    for line in section.data().split(b"\0") if section is not None else ():
        key, _, value = line.decode(errors="replace").partition("=")
        if key:
            yield key, value
