"""A home that others can write, or have written, makes b2d run none of their code, and is closed to them."""

import os
import stat
from pathlib import Path

import pytest

from b2d.config import editor, loader
from b2d.host.files import check_owner
from b2d.paths import Home

SOMEBODY = 61234  # a uid without a user
pytestmark = pytest.mark.needs("posix")


def a_home(folder: Path) -> Home:
    home = Home(folder / "home")
    home.root.mkdir(mode=0o700)
    home.config.write_text('vboxapi = "/srv/evil"\nmemory = 777\n')
    home.config.chmod(0o600)
    return home


def load_settings(home: Home) -> tuple[str, int, list[str]]:
    loaded = loader.load(home, {}, {})
    return loaded.settings.vboxapi, loaded.settings.memory, loaded.remarks


def test_code_named_by_the_owner_is_run(tmp_path: Path) -> None:
    assert load_settings(a_home(tmp_path)) == ("/srv/evil", 777, [])


@pytest.mark.needs("root")
@pytest.mark.parametrize("foreign", ["file", "folder", "link"])
def test_root_runs_no_code_named_in_a_foreign_home(tmp_path: Path, foreign: str) -> None:
    home = a_home(tmp_path)
    if foreign == "link":
        (tmp_path / "theirs").mkdir()
        home.config.rename(tmp_path / "theirs" / "config.toml")
        home.config.symlink_to(tmp_path / "theirs" / "config.toml")
    os.chown({"file": home.config, "folder": home.root, "link": tmp_path / "theirs"}[foreign], SOMEBODY, SOMEBODY)
    vboxapi, memory, (remark,) = load_settings(home)
    assert (vboxapi, memory) == ("", 777)
    assert "vboxapi is ignored, as it names a program to run and other users can write that file" in remark


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_code_named_in_a_group_or_world_writable_home_is_not_run(tmp_path: Path, mode: int) -> None:
    home = a_home(tmp_path)
    home.root.chmod(mode)
    assert load_settings(home)[0] == ""
    home.root.chmod(0o755)
    home.config.chmod(0o666)
    assert load_settings(home)[0] == ""


def test_a_world_writable_home_is_closed_before_the_first_write(tmp_path: Path) -> None:
    home = a_home(tmp_path)
    home.root.chmod(0o777)
    editor.set_values(home, {}, {"memory": "800"})
    assert stat.S_IMODE(home.root.stat().st_mode) == 0o755
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600


def test_a_sticky_shared_folder_is_not_closed(tmp_path: Path) -> None:
    """A user may set B2D_HOME=/tmp."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    check_owner(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
