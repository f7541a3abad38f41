"""The commands shown in docs/ work, one block after the other, on a real machine."""

import json

import pytest

from b2d.paths import Home
from tests.e2e.conftest import Person
from tests.support.shown_commands import blocks

pytestmark = pytest.mark.qemu

# pages, and the preparations that their readers have done
PAGES = {
    "docs/everyday.md": "echo conf >site.conf",
    "docs/copy.md": "mkdir -p src/sub && echo a >src/a && echo b >src/sub/b && echo conf >site.conf",
    "docs/disk.md": "true",
    "docs/snapshots.md": "true",
    "docs/howto/backup.md": "mkdir backup && b2d run -- sh -c 'docker volume create VOLUME && docker tag hello debian'",
    "docs/howto/several-machines.md": "true",
}
# commands that are changed here, with the reason
EDITS = {
    "b2d ssh": "b2d ssh </dev/null",  # without input
    "b2d logs -f": "timeout --preserve-status -s INT 5 b2d logs -f || [ $? = 130 ]",  # Ctrl-C
    "b2d status": "b2d status || [ $? = 4 ]",  # the machine is off there
    "b2d set memory=4096 cpus=4": "b2d set memory=1024 cpus=1",  # as much as the next tests of this machine can have
    "b2d stop && b2d snapshot restore before-the-update && b2d up": (
        "b2d stop && b2d snapshot restore before-the-update --yes && b2d up"  # there is no terminal to confirm on
    ),
    "cp --sparse=always ~/.b2d/machines/boot2docker-vm/disk.qcow2 /backup/": (
        "cp --sparse=always ~/.b2d/machines/boot2docker-vm/disk.qcow2 backup/"  # in the test's own folder
    ),
    "b2d import /backup/disk.qcow2 --vm restored": "b2d import backup/disk.qcow2 --vm restored",
    "b2d run -- docker run --rm -v VOLUME:/data:ro debian tar -c -C /data . > volume.tar": (
        "b2d run -- docker run --rm -v VOLUME:/data:ro debian tar -c -C /data . > volume.tar && tar -tf volume.tar"
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_work(up: Person, image_home: Home, page: str) -> None:
    up.check_output("up")
    prepared = up.sh(PAGES[page])
    assert prepared.returncode == 0, prepared.stderr.decode()
    shown = list(blocks(page))
    assert shown
    for block in shown:
        if not block[0].startswith("b2d up"):
            up.check_output("up")
        script = "\n".join(["set -e", *(EDITS.get(line, line) for line in block)])
        completed = up.sh(script)
        assert completed.returncode == 0, f"{script}\n{completed.stdout.decode()}{completed.stderr.decode()}"
    for name in ("restored", "ci"):
        up.b2d("delete", "--yes", "--vm", name)
    for snapshot in json.loads(up.check_output("snapshot", "list", "--json")):
        up.check_output("snapshot", "delete", snapshot["name"])


def test_every_edit_applies_to_a_shown_line() -> None:
    lines = {line for page in PAGES for block in blocks(page) for line in block}
    assert set(EDITS) <= lines
