"""The same tree gives the same squashfs on every host, and unsquashfs reads it back unchanged."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from b2d.image.build import squashfs
from b2d.image.build.fs_tree import Tree, file, link
from b2d.image.build.fs_tree import folder as a_folder
from tests.support.paths import ROOT

MTIME = 1_700_000_000
NOBODY = 65534
PACK_AS_NOBODY = f"""
import os, sys
from tests.image.test_squashfs import MTIME, a_tree, squashfs, Path
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
os.umask(0o077)
squashfs.pack(a_tree(), MTIME, Path(sys.argv[1]))
"""


def a_tree() -> Tree:
    tree = Tree()
    tree.put("bin/sudo", file(bytes(range(256)) * 5000, 0o4755))
    tree.put("bin/sh", link("busybox"))
    tree.put("tmp", a_folder(0o1777))
    tree.put("etc/grüße", file(b"text", 0o600))
    return tree


def test_the_packed_files_are_those_of_the_tree(tmp_path: Path) -> None:
    squashfs.pack(a_tree(), MTIME, tmp_path / "root")
    shown = subprocess.run(
        ["unsquashfs", "-lln", "-d", "", tmp_path / "root"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"},
    )
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert {" ".join(line[3:5]) for line in lines} == {"2023-11-14 22:13"}
    assert [" ".join([*line[:2], *line[5:]]) for line in lines] == [
        "drwxr-xr-x 0/0",
        "drwxr-xr-x 0/0 /bin",
        "lrwxrwxrwx 0/0 /bin/sh -> busybox",
        "-rwsr-xr-x 0/0 /bin/sudo",
        "drwxr-xr-x 0/0 /etc",
        "-rw------- 0/0 /etc/grüße",
        "drwxrwxrwt 0/0 /tmp",
    ]
    packed = subprocess.run(["unsquashfs", "-cat", tmp_path / "root", "bin/sudo"], capture_output=True, check=True)
    assert packed.stdout == a_tree()["bin/sudo"].content


def test_packing_as_another_user_produces_the_same_bytes(tmp_path: Path) -> None:
    squashfs.pack(a_tree(), MTIME, tmp_path / "ours")
    with TemporaryDirectory() as folder:
        theirs = Path(folder)
        theirs.chmod(0o777)
        subprocess.run([sys.executable, "-c", PACK_AS_NOBODY, theirs / "root"], cwd=ROOT, check=True)
        assert (theirs / "root").read_bytes() == (tmp_path / "ours").read_bytes()
