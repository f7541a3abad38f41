"""A path belongs to a machine when a colon comes before any slash, except for drive letters of Windows."""

import sys

import pytest

from b2d.errors import ConfigError
from b2d.guest.transfer import copy_endpoints
from b2d.guest.transfer.copy_endpoints import CopyEndpoint, parse_endpoint


@pytest.mark.parametrize(
    ("typed", "endpoint"),
    [
        ("file", CopyEndpoint("file")),
        ("./a:b", CopyEndpoint("./a:b")),
        ("/a:b", CopyEndpoint("/a:b")),
        ("-", CopyEndpoint("-")),
        (":-", CopyEndpoint("./-", "")),
        (":", CopyEndpoint(".", "")),
        (":~", CopyEndpoint(".", "")),
        (":~/x", CopyEndpoint("x", "")),
        (":~other/x", CopyEndpoint("~other/x", "")),
        (":/a:b", CopyEndpoint("/a:b", "")),
        (":-rf", CopyEndpoint("./-rf", "")),
        ("box:/x/", CopyEndpoint("/x/", "box")),
        ("c:/x", CopyEndpoint("/x", "c")),
    ],
)
def test_an_endpoint_is_parsed(typed: str, endpoint: CopyEndpoint) -> None:
    assert parse_endpoint(typed) == endpoint


@pytest.mark.parametrize("typed", ["", "docker@box:/x", "a b:c"])
def test_an_invalid_endpoint_is_reported(typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(typed)
    assert caught.value.hint


def test_a_drive_letter_is_not_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for typed in ("C:\\Users\\me", "c:/x", "c:x", "folder\\a:b"):
        assert parse_endpoint(typed) == CopyEndpoint(typed)
    assert parse_endpoint("box:/x") == CopyEndpoint("/x", "box")


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
def test_a_copy_is_named_after_the_last_part_of_the_path(path: str, name: str, parts: tuple[str, str]) -> None:
    assert (copy_endpoints.last_name(path), copy_endpoints.split(path)) == (name, parts)
