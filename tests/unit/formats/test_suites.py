"""The suites that an image, which may be foreign, declares as its origin."""

import json
from pathlib import Path

import pytest

from b2d.formats import iso_files, suites
from b2d.models import Suite, SuiteState
from tests.support.kernel_images import an_iso

GOOD = {"name": "trixie", "date": "2025-11-29T08:00:00Z", "state": "current"}


def an_image(folder: Path, content: bytes) -> Path:
    path = folder / "an.iso"
    path.write_bytes(an_iso("b2d-v1", {suites.DESCRIPTION: content}))
    return path


def test_suites_are_read(tmp_path: Path) -> None:
    iso = an_image(tmp_path, json.dumps({"suites": [GOOD, {**GOOD, "state": "missing"}]}).encode())
    current, missing = suites.of_iso(iso)
    assert current == Suite("trixie", "2025-11-29T08:00:00Z", SuiteState.CURRENT)
    assert missing.state == SuiteState.MISSING


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"1", b"[" * 100_000, b"\xff", b"{}"),
        *(b'{"suites": 1}', b'{"suites": [1]}', b'{"suites": [{}]}', b'{"suites": {"a": 1}}'),
        json.dumps({"suites": [{**GOOD, "state": "splendid"}]}).encode(),
    ],
)
def test_an_invalid_description_names_no_suites(tmp_path: Path, content: bytes) -> None:
    assert suites.of_iso(an_image(tmp_path, content)) == ()


def test_long_descriptions_are_cut(tmp_path: Path) -> None:
    parsed = suites.of_iso(an_image(tmp_path, json.dumps({"suites": [{**GOOD, "name": "x" * 10_000}] * 100}).encode()))
    assert len(parsed) == suites.MAX_SUITES and len(parsed[0].name) == suites.MAX_CHARACTERS


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    iso = an_image(tmp_path, b"x" * 100)
    assert iso_files.read_file(iso, suites.DESCRIPTION, 100) == b"x" * 100
    assert iso_files.read_file(iso, suites.DESCRIPTION, 99) is None
    assert iso_files.read_file(iso, "/b2d/none") is None


@pytest.mark.parametrize("size", [0, 10, 17 * 2048, 20 * 2048 + 7])
def test_a_truncated_iso_has_no_files(tmp_path: Path, size: int) -> None:
    iso = an_image(tmp_path, b"x")
    iso.write_bytes(iso.read_bytes()[:size])
    assert iso_files.read_file(iso, suites.DESCRIPTION) is None
