"""The documentation site builds without a warning, and its reference pages name what the program has."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from b2d.cli.main import VERBS
from b2d.config.settings import Settings
from tests.support.paths import ROOT

pytestmark = pytest.mark.xdist_group("site")  # one process builds it


def build(builder: str, output: Path) -> Path:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder]
    completed = subprocess.run(
        [*command, "-d", str(output.with_suffix(".cache")), str(ROOT / "docs"), str(output)],
        cwd=output.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return output


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as HTML."""
    return build("html", tmp_path_factory.mktemp("site") / "html")


def test_every_page_of_docs_is_in_the_site(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")]
    assert [page for page in pages if not (site / page).is_file()] == []


def test_the_reference_names_every_command(site: Path) -> None:
    page = html.unescape(re.sub(r"<[^>]*>", "", (site / "reference" / "commands.html").read_text()))
    assert [verb for verb in VERBS if f"b2d {verb} [OPTIONS]" not in page] == []


def test_the_reference_names_every_setting(site: Path) -> None:
    page = (site / "reference" / "settings.html").read_text()
    assert [key for key in Settings._fields if f">{key}<" not in page] == []


def test_the_manual_page_names_every_command(tmp_path: Path) -> None:
    page = (build("man", tmp_path / "man") / "b2d.1").read_text().replace("\\-", "-")
    assert [verb for verb in VERBS if verb not in page] == []
