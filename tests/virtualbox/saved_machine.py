"""A machine with the image, booted once, saved, and cached for later runs: an emulated CPU takes minutes to boot.

It is cached until the image's files, VirtualBox or the driver change. It booted in the office network of tests/e2e, as
guests read their network configuration at boot only.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from b2d.formats.iso_files import read_file
from b2d.image.boot_files import FILE_LIMIT
from b2d.paths import Home
from tests.e2e.conftest import B2D, Person
from tests.e2e.office import PLAIN, PROXY_PORT, USER
from tests.support.paths import ROOT
from tests.support.virtualbox_case import PROGRAMS, vboxmanage

FOLDER = Path(os.environ.get("B2D_TEST_KEPT") or "/var/b2d")  # the same at each run: VirtualBox stores absolute paths
FIRST_BOOT_S = 4000
DISK_MIB = 1500  # small, as one of the tests overwrites all its free space
SHARED = "of both"  # a folder in the home, with a space in its name
PASSWORD = "secret"  # the address of the office's proxy
BOOT_FILES = ("/boot/vmlinuz", "/boot/initrd", "/b2d/root.squashfs")  # only the image's description changes daily
MADE_BY = [
    Path(__file__),
    ROOT / "tests/e2e/office.py",
    *sorted((ROOT / "b2d/drivers/virtualbox").glob("*.py")),
    ROOT / "b2d/image/uncompressed_iso.py",
    ROOT / "b2d/formats/bzimage_uncompressed.py",
]


@contextmanager
def saved_person(iso: Path, image_home: Home) -> Iterator[Person]:
    """Yield a user with a saved machine, whose Docker has the image `hello`; it is deleted after the block."""
    folder, stored, mark = FOLDER / "person", FOLDER / "kept", FOLDER / "kept.key"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        shutil.rmtree(folder, ignore_errors=True)
        someone = _person(folder)
        if mark.exists() and mark.read_text() == key(iso):
            _copy(stored, folder)
        else:
            mark.unlink(missing_ok=True)
            shutil.rmtree(stored, ignore_errors=True)
            folder.mkdir()
            shutil.copytree(image_home.images, someone.home.images)
            _first_boot(someone)
            _copy(folder, stored)
            mark.write_text(key(iso))
        try:
            yield someone
        finally:
            someone.b2d("delete", "--yes")


def key(iso: Path) -> str:
    """Return a key that changes whenever a new machine might differ from the cached one."""
    digest = hashlib.sha256(vboxmanage("--version").encode())
    contents = [read_file(iso, name, FILE_LIMIT) for name in BOOT_FILES]
    for content in (*contents, *(path.read_bytes() for path in MADE_BY)):
        assert content is not None
        digest.update(content)
    return digest.hexdigest()[:16]


def _person(folder: Path) -> Person:
    os.environ |= {"VBOX_USER_HOME": str(folder / "virtualbox"), "VBOX_IPC_SOCKETID": "b2d-person"}
    environment = {
        "HOME": str(folder),
        "PATH": os.pathsep.join([str(B2D.parent), PROGRAMS, os.environ["PATH"]]),
        "B2D_DRIVER": "virtualbox",
        "B2D_MEMORY": "1024",
        "B2D_DISK": str(DISK_MIB),
        "B2D_CPUS": "1",  # an emulated CPU that waits for another one keeps both busy
        "B2D_WAIT": str(FIRST_BOOT_S),
        "B2D_HTTP_PROXY": (proxy := f"http://{USER}:{PASSWORD}@127.0.0.1:{PROXY_PORT}"),
        "B2D_HTTPS_PROXY": proxy,
        "B2D_INSECURE_REGISTRIES": PLAIN,
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in ("VBOX_USER_HOME", "VBOX_IPC_SOCKETID")},
    }
    return Person(Home(folder / ".b2d"), folder, environment)


def _first_boot(someone: Person) -> None:
    """Run init and up, create the image `hello` from the machine's busybox, and save.

    Shared folders are determined at boot, so the tests' folder is created before.
    """
    (someone.folder / SHARED).mkdir(exist_ok=True)
    for verb in ("init", "up"):
        completed = someone.b2d("-v", verb, limit_s=FIRST_BOOT_S)
        assert completed.returncode == 0, completed.stderr.decode()
    tree = someone.b2d("ssh", "--", "tar -cC / usr/bin/busybox")
    assert tree.returncode == 0, tree.stderr.decode()
    someone.docker("import", "--change", 'ENTRYPOINT ["/usr/bin/busybox"]', "-", "hello", stdin=tree.stdout)
    someone.check_output("save")


def _copy(folder: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", "--sparse=always", str(folder), str(to)], check=True)
