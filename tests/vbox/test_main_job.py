"""The main job on a real VirtualBox. The image boots once, for minutes where the CPU is emulated, and is saved.

What was saved is kept for the next runs, as long as image, VirtualBox and the driver stay what they are.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.layout import Home
from tests.e2e.conftest import B2D, Person
from tests.vbox.case import PROGRAMS, manage

pytestmark = [pytest.mark.virtualbox, pytest.mark.timeout(5000)]
ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("B2D_TEST_KEPT") or "/var/b2d")  # the same at each run: VirtualBox keeps whole paths
FIRST_BOOT_S = 4000
RESUME_S = 20.0  # 10 when nothing else runs on this computer
MADE_BY = [
    Path(__file__),
    *sorted((ROOT / "b2d" / "drivers").glob("virtualbox*.py")),
    ROOT / "b2d/stored.py",
    ROOT / "b2d/flat_kernel.py",
]


def key(iso: Path) -> str:
    """Another one whenever what was kept may not be what a new machine would be."""
    digest = hashlib.sha256(f"{iso.name} {manage('--version')}".encode())
    for path in MADE_BY:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="module")
def person(iso: Path, image_home: Home) -> Iterator[Person]:
    """Someone who has saved a machine, whose Docker has the image `hello`; all ends with the module."""
    here, kept, mark = FOLDER / "person", FOLDER / "kept", FOLDER / "kept.key"
    FOLDER.mkdir(parents=True, exist_ok=True)
    alone = (FOLDER / "lock").open("w")
    fcntl.flock(alone, fcntl.LOCK_EX)
    shutil.rmtree(here, ignore_errors=True)
    os.environ |= {"VBOX_USER_HOME": str(here / "virtualbox"), "VBOX_IPC_SOCKETID": "b2d-person"}
    environment = {
        "HOME": str(here),
        "PATH": os.pathsep.join([str(B2D.parent), PROGRAMS, os.environ["PATH"]]),
        "B2D_DRIVER": "virtualbox",
        "B2D_MEMORY": "1024",
        "B2D_DISK": "4000",
        "B2D_CPUS": "1",  # an emulated one that waits for another burns both
        "B2D_WAIT": str(FIRST_BOOT_S),
        "LANG": "C.UTF-8",
        **{name: os.environ[name] for name in ("VBOX_USER_HOME", "VBOX_IPC_SOCKETID")},
    }
    someone = Person(Home(here / ".b2d"), here, environment)
    if mark.exists() and mark.read_text() == key(iso):
        subprocess.run(["cp", "-a", "--sparse=always", str(kept), str(here)], check=True)
    else:
        mark.unlink(missing_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        here.mkdir()
        shutil.copytree(image_home.images, someone.home.images)
        first_boot(someone)
        subprocess.run(["cp", "-a", "--sparse=always", str(here), str(kept)], check=True)
        mark.write_text(key(iso))
    yield someone
    someone.b2d("delete", "--yes")
    alone.close()


def first_boot(someone: Person) -> None:
    """init, up, and the image `hello`: busybox, out of the machine itself; then save."""
    for verb in ("init", "up"):
        done = someone.b2d("-v", verb, limit_s=FIRST_BOOT_S)
        assert done.returncode == 0, done.stderr.decode()
    tree = someone.b2d("ssh", "--", "tar -cC / usr/bin/busybox")
    assert tree.returncode == 0, tree.stderr.decode()
    someone.docker("import", "--change", 'ENTRYPOINT ["/usr/bin/busybox"]', "-", "hello", stdin=tree.stdout)
    someone.does("save")


def test_a_saved_machine_is_up_in_seconds_and_runs_a_container(person: Person) -> None:
    assert person.b2d("status").stdout == b"saved\n"
    begin = time.monotonic()
    person.does("up")
    took = time.monotonic() - begin
    assert person.docker("run", "--rm", "hello", "echo", "hi") == "hi\n"
    assert took < RESUME_S
    assert person.does("status") == "running\n"


def test_where_it_is_is_told_as_with_any_hypervisor(person: Person) -> None:
    assert person.does("ip") == f"{person.address}\n"
    assert f"tcp://{person.address}:2376" in person.does("shellinit")


def test_ssh_ends_as_its_command_does(person: Person) -> None:
    assert person.b2d("ssh", "--", "exit 7").returncode == 7
    assert person.does("ssh", "hostname") == "boot2docker\n"


def test_the_data_is_on_the_disk(person: Person) -> None:
    assert person.does("ssh", "grep -c ' /mnt/sda1 ext4' /proc/mounts") == "1\n"


def test_its_clock_is_right_after_the_sleep(person: Person) -> None:
    begin = time.time()
    inside = int(person.does("ssh", "date +%s"))
    assert begin - 3 < inside < time.time() + 3


def test_the_home_folder_is_there_at_its_own_path(person: Person) -> None:
    here = person.folder / "of both"
    here.mkdir()
    (here / "host's").write_text("from the host\n")
    inside = f"cd '{here}' && cat *s && echo from the guest >guest && stat -c %U guest"
    assert person.does("ssh", inside) == "from the host\ndocker\n"
    assert (here / "guest").read_text() == "from the guest\n"


def test_a_saved_machine_goes_on_where_it_was(person: Person) -> None:
    person.does("ssh", "echo here >/tmp/kept")
    person.does("save")
    assert person.b2d("status").stdout == b"saved\n"
    assert person.b2d("shellinit").stdout == b""
    person.does("up")
    seen = f"cat /tmp/kept '{person.folder}/of both/guest'"
    assert person.does("ssh", seen) == "here\nfrom the guest\n"


def test_its_power_button_ends_it(person: Person) -> None:
    person.environment["B2D_STOP_WAIT"] = "300"
    done = person.b2d("stop")
    assert done.returncode == 0
    assert b"its power was cut" not in done.stderr
    assert person.b2d("status").stdout == b"stopped\n"


def test_delete_leaves_nothing_in_virtualbox_and_the_image_stays(person: Person) -> None:
    person.does("delete", "--yes")
    assert person.b2d("status").returncode == 3
    assert not person.paths.folder.exists()
    assert [manage("list", kind) for kind in ("vms", "hdds", "dvds")] == ["", "", ""]
    assert list(person.home.images.glob("*.iso"))
