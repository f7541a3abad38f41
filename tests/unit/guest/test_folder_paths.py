"""The folders of this host that a guest may have, and their paths in it."""

from pathlib import Path

import pytest

from b2d.errors import ConfigError
from b2d.guest import folder_paths
from b2d.guest.folder_paths import Folder


def test_a_folder_is_mounted_at_the_same_path() -> None:
    assert folder_paths.parse("/data/of mine") == Folder("/data/of mine", "/data/of mine", read_only=False)


def test_the_suffix_ro_makes_a_folder_read_only() -> None:
    assert folder_paths.parse("/data:ro") == Folder("/data", "/data", read_only=True)


def test_a_tilde_is_the_home_directory() -> None:
    assert folder_paths.parse("~").host == str(Path.home())
    assert folder_paths.parse("~/a/../b:ro").host == str(Path.home() / "b")


@pytest.mark.parametrize("path", ["data", "", ":ro", "./here", "/a\nb", "~nobody-of-that-name/x"])
def test_a_relative_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="absolute path"):
        folder_paths.parse(path)


@pytest.mark.parametrize(
    "path",
    ["/", "/etc", "/usr/local", "/var", "/var/lib/docker/volumes", "/home", "/home/docker", "/dev/shm", "/a/../run"],
)
def test_a_system_path_of_the_guest_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="has its own"):
        folder_paths.parse(path)


@pytest.mark.parametrize("path", ["/root", "/home/me", "/var/www", "/tmp/work", "/usr2", "/Users/me", "/mnt/c"])
def test_other_paths_are_accepted(path: str) -> None:
    assert folder_paths.parse(path).guest == path


@pytest.mark.parametrize(
    ("path", "guest"), [("C:\\Users\\me", "/c/Users/me"), ("d:\\", "/d"), ("E:/work/here", "/e/work/here")]
)
def test_a_windows_folder_is_mounted_below_its_drive_letter(path: str, guest: str) -> None:
    assert folder_paths.guest_path(path) == guest
