"""The command `b2d iso build`. (Its output is tested in tests/image/test_build.py and tests/e2e/test_iso_boot.py.)"""

import os
import subprocess
import sysconfig
from itertools import repeat
from pathlib import Path

import pytest

from tests.support.debian_mirror import PORTAL, LocalDebian, respond_with
from tests.support.small_image import publish

B2D = Path(sysconfig.get_path("scripts")) / "b2d"


def b2d(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "B2D_HOME": str(folder / "home"), "NO_PROXY": "*"}
    return subprocess.run(
        [B2D, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def failed(completed: subprocess.CompletedProcess[str], code: int) -> str:
    """Assert that the command failed with nothing on stdout, and return its error message."""
    assert (completed.returncode, completed.stdout) == (code, "")
    assert "Traceback" not in completed.stderr
    (sentence,) = [line for line in completed.stderr.splitlines() if line.startswith("b2d: ")]
    assert len([line for line in completed.stderr.splitlines() if line.startswith("     try: ")]) == 1
    return sentence


def test_an_unsupported_architecture_is_a_usage_error(tmp_path: Path) -> None:
    stderr = failed(b2d(tmp_path, "iso", "build", "--arch", "m68k"), 2)
    assert stderr == "b2d: images for m68k are not supported yet"


@pytest.mark.parametrize(
    ("mirror", "code", "sentence"),
    [
        ("http://127.0.0.1:1/debian", 7, "b2d: 127.0.0.1:1 cannot be reached"),
        ("ftp.de.debian.org", 2, "b2d: 'ftp.de.debian.org' is not a valid mirror address"),
    ],
)
def test_an_unreachable_mirror_is_reported_in_one_sentence(
    tmp_path: Path, mirror: str, code: int, sentence: str
) -> None:
    output = tmp_path / "b2d.iso"
    output.write_bytes(b"the one of before")
    assert failed(b2d(tmp_path, "iso", "build", "-o", "b2d.iso", "--mirror", mirror), code) == sentence
    assert output.read_bytes() == b"the one of before"
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["b2d.iso"]


def test_a_mirror_that_debian_did_not_sign_is_refused(debian: LocalDebian, tmp_path: Path) -> None:
    publish(debian)
    stderr = failed(b2d(tmp_path, "iso", "build", "--mirror", debian.url), 7)
    assert "is not signed by Debian" in stderr


def test_a_captive_portal_is_reported(debian: LocalDebian, tmp_path: Path) -> None:
    debian.wrong["/"] = repeat(respond_with(200, PORTAL))
    completed = b2d(tmp_path, "iso", "build", "--mirror", debian.url)
    assert "is a web page" in failed(completed, 7)
    assert "login" in completed.stderr
