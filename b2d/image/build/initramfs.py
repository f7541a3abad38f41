"""The initramfs: busybox, a few modules and a script that finds the root file system."""

from b2d.image.build.fs_tree import Tree, file, folder, link
from b2d.image.build.kernel_modules import Module, Modules
from b2d.image.build.recipe import Recipe


def compose(recipe: Recipe, busybox: bytes, modules: Modules) -> Tree:
    """Return the initramfs; for each group of modules /modules has a list in the order of loading."""
    tree = Tree()
    for name in recipe.stage1.folders:
        tree.put(name, folder())
    tree.put("bin/busybox", file(busybox, 0o755))
    for name in recipe.stage1.applets:
        tree.put(f"bin/{name}", link("busybox"))
    tree.put("init", file(recipe.stage1_init.read_bytes(), 0o755))
    for group, names in recipe.stage1.modules.items():
        wanted = [module for module in modules.with_dependencies(names) if f"modules/{module.name}.ko" not in tree]
        tree.put(f"modules/{group}", file(_list(wanted)))
        for module in wanted:
            tree.put(f"modules/{module.name}.ko", file(module.content))
    return tree


def _list(modules: list[Module]) -> bytes:
    return "".join(f"{module.name}.ko\n" for module in modules).encode()
