"""Nested folders that a machine can write: root in the guest gains nothing by a link, and `:ro` holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from b2d.drivers.qemu import shared_folders
from b2d.errors import ConfigError
from b2d.guest import share_overlaps, share_policy


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a user's home with a secret."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / "src" / "data").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def shared_paths(me: Path, *share: str) -> list[str]:
    folders = share_policy.select(share, me / ".b2d").folders
    return [str(Path(folder).relative_to(me)) for folder in folders]


def by_itself(me: Path) -> str:
    (me / "src" / "data").rmdir()
    (me / "src" / "data").symlink_to(me / ".ssh")
    return f"{me}/src/data"


def by_a_folder_above(me: Path) -> str:
    (me / ".ssh" / "data").mkdir()
    (me / "src" / "data").rmdir()
    (me / "src" / "up").symlink_to("../.ssh")
    return f"{me}/src/up/data"


def by_a_link_of_the_owner(me: Path) -> str:
    (me / "mine").symlink_to("src/data")
    by_itself(me)
    return f"{me}/mine"


def by_dots(me: Path) -> str:
    (me / "src" / "up").symlink_to("./data/../../.ssh")
    return f"{me}/src/up"


@pytest.mark.parametrize("way", [by_itself, by_a_folder_above, by_a_link_of_the_owner, by_dots])
@pytest.mark.parametrize("mode", ["", ":ro"])
def test_a_link_that_a_guest_made_is_not_followed_at_the_next_boot(
    me: Path, way: Callable[[Path], str], mode: str
) -> None:
    path = way(me)
    assert shared_paths(me, "~/src", path + mode) == ["src"]
    (sentence,) = share_policy.select(["~/src", path + mode], me / ".b2d").left_out
    assert "is a link that the machine could have made" in sentence
    shared = [f"{me}/src", path + mode]  # as in a saved machine
    assert shared_folders.find_missing(shared, lambda _: "") == [1]
    assert shared_paths(me, "~/src:ro", path + mode) == [
        "src:ro",
        path.removeprefix(f"{me}/") + mode,
    ]  # no machine could have created it


def test_read_only_is_refused_where_it_cannot_be_enforced(me: Path) -> None:
    assert shared_paths(me, "~/src", "~/src/data:ro") == ["src"]
    with pytest.raises(ConfigError, match="cannot be read-only"):
        share_policy.check(["~/src", "~/src/data:ro"], me / ".b2d")
    (me / "same").symlink_to("src")
    with pytest.raises(ConfigError, match="cannot be read-only"):
        share_policy.check(["~/*", "~/same:ro"], me / ".b2d")
    share_policy.check(["~/src", "~/src/data", "~/other:ro"], me / ".b2d")
    assert shared_paths(me, "~/src:ro", "~/src/data") == ["src:ro", "src/data"]


def test_a_named_folder_has_the_mode_of_its_name(me: Path) -> None:
    assert shared_paths(me, "~/*", "~/src:ro") == ["other", "src:ro"]
    assert shared_paths(me, "~/*:ro", "~/src") == ["other:ro", "src"]
    assert shared_paths(me, "~/src", "~/src:ro") == ["src:ro"]


def test_a_link_to_itself_is_followed_a_limited_number_of_times(me: Path) -> None:
    (me / "src" / "round").symlink_to("round")
    assert len(list(share_overlaps._links(f"{me}/src/round/x"))) == share_overlaps.MOST_LINKS
