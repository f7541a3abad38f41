"""The main job on a real VirtualBox."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.layout import Home
from tests.e2e.conftest import Person
from tests.vbox.case import manage
from tests.vbox.kept import saved_person

pytestmark = [pytest.mark.virtualbox, pytest.mark.timeout(5000)]
RESUME_S = 20.0  # 10 when nothing else runs on this computer


@pytest.fixture(scope="module")
def person(iso: Path, image_home: Home) -> Iterator[Person]:
    """Someone whose machine is saved."""
    with saved_person(iso, image_home) as someone:
        yield someone


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
