"""Folders of the host in the guest: what it does where it cannot have one. That it has them: tests/vbox/."""

from pathlib import Path

import pytest

from b2d import seed
from b2d.folders import Folder
from b2d.layout import MachinePaths
from b2d.model import Image
from tests import dockerless, tiny

pytestmark = pytest.mark.qemu


def test_a_folder_that_cannot_be_had_is_a_warning_and_the_boot_goes_on(image: Image, tmp_path: Path) -> None:
    made = dockerless.image(image, tmp_path, "cat /run/b2d/seed/folders; grep -c vboxsf /proc/mounts")
    folders = [Folder("/data/of mine", "/data/of mine", read_only=True), Folder("/more", "/more", read_only=False)]
    identity = seed.Seed(hostname="box", authorized_keys="", host_key=b"", tls=None, folders=folders)
    MachinePaths(tmp_path).seed.write_bytes(seed.image(identity))
    guest = dockerless.Guest(made, tmp_path, tiny.spec(), [])
    assert "b2d-0 ro /data/of mine\nb2d-1 rw /more\n0\n" in guest.report()
    for path in ("/data/of mine", "/more"):
        assert f"b2d: warn the host's folder {path} cannot be had\n" in guest.console()
