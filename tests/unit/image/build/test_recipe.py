"""The recipe is plain data; errors in it are reported with their place."""

import re
from pathlib import Path

import pytest

from b2d.errors import ConfigError, DownloadError
from b2d.image.build import recipe
from b2d.image.build.signature import verify
from tests.support.debian_mirror import LocalDebian
from tests.support.small_image import RECIPE, a_recipe

OURS = recipe.find()


def test_our_recipe_is_valid() -> None:
    ours = recipe.read(OURS)
    assert {"docker.io", "containerd", "busybox-static"} <= set(ours.root_packages)
    assert [(archive.name, archive.required) for archive in ours.archives] == [
        ("main", True),
        ("updates", False),
        ("security", False),
    ]
    assert ours.files.modes["etc/shadow"] == 0o600
    assert "console=ttyS0" in ours.kernel_arguments
    assert ours.stage1_init.read_bytes().startswith(b"#!/bin/sh\n")
    assert [path.name for path in ours.keys if not path.is_file()] == []


@pytest.mark.parametrize("item", ["packages", "modules", "applets", "stage1"])
def test_our_recipe_has_no_duplicates(item: str) -> None:
    ours = recipe.read(OURS)
    names = {
        "packages": (*ours.root_packages, *ours.medium_packages),
        "modules": ours.modules,
        "applets": (*ours.applets["usr/bin"], *ours.applets["usr/sbin"]),
        "stage1": ours.stage1.all_modules,
    }[item]
    assert sorted(names) == sorted(set(names))


def test_our_keys_trust_no_other_signer() -> None:
    debian = LocalDebian()
    debian.publish("trixie")
    content = debian.files["/debian/dists/trixie/InRelease"]
    with pytest.raises(DownloadError, match="not signed by Debian"):
        verify(content, recipe.read(OURS).keys, "url")


def test_every_script_of_the_recipe_has_a_shebang() -> None:
    scripts = [path for path in (OURS / "rootfs").rglob("*") if path.is_file() and path.parent.name in ("bin", "sbin")]
    assert scripts
    assert [path.name for path in scripts if not path.read_bytes().startswith(b"#!/bin/sh\n")] == []


def sourced_scripts(path: Path) -> set[Path]:
    """Return the script and all that it sources."""
    names = re.findall(r"^\s*\. /(etc/b2d/[\w-]+)$", path.read_text(), re.MULTILINE)
    return {path}.union(*(sourced_scripts(OURS / "rootfs" / name) for name in names))


@pytest.mark.parametrize("name", ["boot", "hold"])
def test_the_shells_of_a_boot_have_no_children_in_the_background(name: str) -> None:
    # whose ends would interrupt the first change of a file of the image
    scripts = sourced_scripts(OURS / "rootfs/etc/b2d" / name) - {OURS / "rootfs/etc/b2d/engine-log"}
    assert {path.name for path in scripts} > {name, "identity", "network", "user"}
    assert [path.name for path in scripts if re.search(r"(?<!&)&$", path.read_text(), re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('component = "main"\n', ""),
        ('"etc/shadow" = "600"', '"etc/shadow" = "rw"'),
        ("required = true", "needed = true"),
        ("[packages]", "[packages"),
        ("root = [", "root = 5 #"),
    ],
)
def test_an_error_in_a_recipe_is_reported_with_its_file(tmp_path: Path, old: str, new: str) -> None:
    assert old in RECIPE
    folder = a_recipe(tmp_path / "iso", LocalDebian(), RECIPE.replace(old, new))
    with pytest.raises(ConfigError, match=r"image\.toml is invalid"):
        recipe.read(folder)
