"""The root file system: the packages' files without the unneeded ones, overlaid with b2d's own."""

from pathlib import Path

from b2d.errors import B2dError
from b2d.image.build.fs_tree import Kind, Tree, file, folder, link, normalize
from b2d.image.build.recipe import Recipe

AUTHORITIES = "usr/share/ca-certificates/"
BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def compose(tree: Tree, recipe: Recipe) -> None:
    """Turn unpacked packages into the root file system, in place. Raises B2dError."""
    _bundle_authorities(tree)
    for pattern in recipe.files.remove:
        tree.remove(pattern)
    tree.prune()
    for path, mode in recipe.files.folders.items():
        tree.put(path, folder(mode))
    _add_overlay(tree, recipe.overlay)
    for path, target in recipe.files.links.items():
        tree.put(path, link(target))
    _link_applets(tree, recipe)
    for path, mode in recipe.files.modes.items():
        tree.change_mode(path, mode)


def _bundle_authorities(tree: Tree) -> None:
    """Put all certificates into one file, as the package's own script would."""
    certificates = [node.content for path, node in tree if path.startswith(AUTHORITIES) and path.endswith(".crt")]
    if not certificates:
        raise B2dError("the package ca-certificates contains no certificates")
    tree.put(BUNDLE, file(b"".join(content.rstrip() + b"\n" for content in certificates)))
    tree.remove(AUTHORITIES + "*")


def _add_overlay(tree: Tree, overlay: Path) -> None:
    """Add the recipe's own files; scripts are recognised by #!, since a checkout may have lost the modes."""
    for path in sorted(overlay.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            name = normalize(path.relative_to(overlay).as_posix())
            tree.put(name, file(content, 0o755 if content.startswith(b"#!") else 0o644))


def _link_applets(tree: Tree, recipe: Recipe) -> None:
    """Link busybox under the name of each of its tools that no package provides."""
    taken = {path.rpartition("/")[2] for path, node in tree if _is_program(path) and node.kind is not Kind.FOLDER}
    for directory, names in recipe.applets.items():
        for name in names:
            if name not in taken:
                tree.put(f"{directory}/{name}", link("/" + recipe.busybox))


def _is_program(path: str) -> bool:
    return path.startswith(("usr/bin/", "usr/sbin/"))
