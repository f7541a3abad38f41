"""Kernel modules come with their dependencies, in an order in which they can be loaded."""

import lzma

import pytest

from b2d.errors import B2dError
from b2d.image.build.fs_tree import Tree, file
from b2d.image.build.kernel_modules import Modules, install, module_name, strip_signature
from tests.support.kernel_images import a_module

HERE = "usr/lib/modules/6.12"
NEEDS = {  # as modinfo reports it: the names have no reliable order
    "ext4": "mbcache,jbd2,crc16",
    "jbd2": "crc32c-generic",
    "mbcache": "",
    "crc16": "",
    "crc32c-generic": "",
    "overlay": "",
    "vxlan": "udp_tunnel,fuse",
    "udp_tunnel": "",
}


@pytest.fixture
def modules() -> Modules:
    tree = Tree()
    tree.put(f"{HERE}/modules.builtin", file(b"kernel/fs/fuse/fuse.ko\n"))
    tree.put(f"{HERE}/modules.order", file(b"kernel/ext4.ko\n"))
    for name, needs in NEEDS.items():
        content = a_module(needs, (f"fs-{name}", f"pci:v*{name}*"), signature=b"signature")
        packed = name.startswith("c")
        path = f"{HERE}/kernel/{name}.ko{'.xz' if packed else ''}"
        tree.put(path, file(lzma.compress(content) if packed else content))
    return Modules(tree, "6.12")


def names(modules: Modules, *wanted: str) -> list[str]:
    return [module.name for module in modules.with_dependencies(wanted)]


def test_each_module_is_listed_once_and_after_its_dependencies(modules: Modules) -> None:
    ordered = names(modules, "ext4", "jbd2", "vxlan", "ext4")
    assert sorted(ordered) == ["crc16", "crc32c_generic", "ext4", "jbd2", "mbcache", "udp_tunnel", "vxlan"]
    for name in ordered:
        for needed in NEEDS[name.replace("_generic", "-generic")].replace("-", "_").split(","):
            assert not needed or needed == "fuse" or ordered.index(needed) < ordered.index(name)


def test_built_in_modules_are_skipped(modules: Modules) -> None:
    assert names(modules, "fuse") == []


def test_dashes_and_underscores_in_module_names_are_equal(modules: Modules) -> None:
    assert names(modules, "crc32c-generic") == names(modules, "crc32c_generic") == ["crc32c_generic"]
    assert module_name("kernel/arch/x86/crypto/crc32c-intel.ko.xz") == "crc32c_intel"


def test_a_module_that_the_kernel_lacks_is_named(modules: Modules) -> None:
    with pytest.raises(B2dError, match=r"6\.12 has no module aufs"):
        names(modules, "overlay", "aufs")


def test_only_the_signature_is_stripped() -> None:
    plain = a_module("x")
    assert strip_signature(a_module("x", signature=b"s" * 700)) == plain
    assert strip_signature(plain) == plain


def test_modprobe_finds_the_installed_modules(modules: Modules) -> None:
    tree = Tree()
    install(modules, modules.with_dependencies(["ext4", "vxlan"]), tree)
    written = dict(line.split(":") for line in tree[f"{HERE}/modules.dep"].content.decode().splitlines())
    order = written["kernel/ext4.ko"].split()  # modprobe loads the last one first
    assert sorted(order) == [f"kernel/{name}.ko" for name in ("crc16", "crc32c-generic", "jbd2", "mbcache")]
    assert order.index("kernel/jbd2.ko") < order.index("kernel/crc32c-generic.ko")
    assert written["kernel/crc16.ko"] == ""
    assert f"{HERE}/kernel/crc16.ko" in tree and f"{HERE}/kernel/overlay.ko" not in tree
    aliases = tree[f"{HERE}/modules.alias"].content.decode().splitlines()
    assert "alias fs-ext4 ext4" in aliases and "alias fs-crc32c-generic crc32c_generic" in aliases
    assert tree[f"{HERE}/modules.builtin"].content == b"kernel/fs/fuse/fuse.ko\n"
