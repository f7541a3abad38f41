"""A path is a machine's where a colon comes before any slash, and a drive of Windows is no machine."""

import sys

import pytest

from b2d.errors import ConfigError
from b2d.guest.transfer import copy_endpoints
from b2d.guest.transfer.copy_endpoints import Place, parse


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("file", Place("file")),
        ("./a:b", Place("./a:b")),
        ("/a:b", Place("/a:b")),
        ("-", Place("-")),
        (":-", Place("./-", "")),
        (":", Place(".", "")),
        (":~", Place(".", "")),
        (":~/x", Place("x", "")),
        (":~other/x", Place("~other/x", "")),
        (":/a:b", Place("/a:b", "")),
        (":-rf", Place("./-rf", "")),
        ("box:/x/", Place("/x/", "box")),
        ("c:/x", Place("/x", "c")),
    ],
)
def test_what_is_typed_is_a_place(typed: str, found: Place) -> None:
    assert parse(typed) == found


@pytest.mark.parametrize("typed", ["", "docker@box:/x", "a b:c"])
def test_what_is_no_place_is_told(typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(typed)
    assert caught.value.hint


def test_a_drive_is_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for typed in ("C:\\Users\\me", "c:/x", "c:x", "folder\\a:b"):
        assert parse(typed) == Place(typed)
    assert parse("box:/x") == Place("/x", "box")


@pytest.mark.parametrize(
    ("path", "name", "parts"),
    [
        ("a/b", "b", ("a", "b")),
        ("/a", "a", ("/", "a")),
        ("a", "a", (".", "a")),
        ("a/b/", "b", ("a/b/", ".")),
        ("a/.", "", ("a/.", ".")),
        ("..", "", ("..", ".")),
        ("/", "", ("/", ".")),
    ],
)
def test_a_copy_is_called_as_the_last_part(path: str, name: str, parts: tuple[str, str]) -> None:
    assert (copy_endpoints.last_name(path), copy_endpoints.split(path)) == (name, parts)
