"""No hint, page or metadata names a package of another project (M15)."""

import re
import tomllib
from pathlib import Path

import pytest

from b2d.errors import B2dError
from b2d.image.build import recipe
from tests.support.cli import Prompt
from tests.support.paths import ROOT

OTHERS = ("b2d", "boot2docker")
INSTALLERS = r"(?:pip3?|pipx|uv(?: tool| pip)?|conda|brew|npm|apt(?:-get)?|winget|poetry)"
LEADS_ASTRAY = re.compile(
    rf"{INSTALLERS}\s+(?:install|add|run|exec)\s[^\n`\"']*?(?<![\w./-])(?:b2d|boot2docker)(?![\w./-])"
)
TEXTS = ("b2d/**/*.py", "docs/**/*.md", "iso/**/*", "*.md", "pyproject.toml")


def texts() -> list[Path]:
    return [path for pattern in TEXTS for path in ROOT.glob(pattern) if path.is_file() and path.suffix != ".gpg"]


def test_no_text_names_a_foreign_package() -> None:
    violations = [path for path in texts() if LEADS_ASTRAY.search(path.read_text(errors="replace"))]
    assert violations == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install --force-reinstall b2d",
        "pipx install boot2docker",
        "uv tool install b2d",
        "brew install boot2docker",
    ],
)
def test_a_foreign_package_name_is_recognised(line: str) -> None:
    assert LEADS_ASTRAY.search(f"try: {line}\n")


def test_the_distribution_has_its_own_name_and_the_usual_commands() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] not in OTHERS
    assert set(project["scripts"]) == set(OTHERS)


def test_a_missing_recipe_has_a_hint_with_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "__file__", str(tmp_path / "b2d/image/build/recipe.py"))
    with pytest.raises(B2dError) as caught:
        recipe.find()
    assert not LEADS_ASTRAY.search(caught.value.hint)
    assert "checkout" in caught.value.hint


def test_a_missing_library_has_a_hint_with_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise ImportError('no click')")
    result = Prompt(tmp_path).b2d("list", PYTHONPATH=str(tmp_path))
    assert result.code == 1
    assert "checkout" in result.err
    assert not LEADS_ASTRAY.search(result.err)
