"""b2d as root of this host: said once, and nothing is opened that an ordinary user could not open."""

import os

import pytest

from tests.boxes import Box


@pytest.mark.parametrize(("user", "warnings"), [(0, 1), (1000, 0)])
def test_root_is_told_once_when_a_machine_is_made(
    box: Box, monkeypatch: pytest.MonkeyPatch, user: int, warnings: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr("b2d.store.refuse_anothers", lambda _: None)
    box.made(folders=("/data",))
    told = [text for text in box.reporter.texts("warn") if "made by root" in text]
    assert len(told) == warnings
    assert all("containers write the folders" in text for text in told)
    box.made(folders=("/data",))
    assert len([text for text in box.reporter.texts("warn") if "made by root" in text]) == warnings


def test_where_nothing_is_shared_root_is_told_of_the_hypervisor_alone(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("b2d.store.refuse_anothers", lambda _: None)
    box.made()
    (told,) = [text for text in box.reporter.texts("warn") if "made by root" in text]
    assert "folders" not in told
