"""Modules, classes and functions that the contributor pages name exist."""

import ast
import re

import pytest

from tests.support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = [DOCS / "architecture.md", DOCS / "CONTRIBUTING.md", DOCS / "glossary.md", *(DOCS / "decisions").glob("*.md")]
PAGE = "".join(path.read_text() for path in PAGES)
CODE = re.compile(r"`([^`\n]+)`")
CALL = re.compile(r"\b[A-Za-z_][\w.]*\(\)")  # also in diagrams
NAME = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:\(\))?")
FOREIGN = {"hostfwd_add", "do_handshake", "close_notify"}  # names of QEMU, Python and TLS
FOREIGN |= {"O_NOFOLLOW", "modules.dep", "resolv.conf", "disk.vdi"}  # of Linux, and VirtualBox's disk
FOREIGN |= {"B2D_", "B2D_BEFORE", "settings_to_set"}  # variables, and a test's list
FOREIGN |= {"stop_wait", "modules.keep", "B2D_MY_SETTING", "B2D_TEST_CACHE"}  # settings in config.toml and image.toml
FILE = re.compile(r"(?:[\w-]+/)*[\w-]+\.(?:py|md|toml|json|sock|log)")


def defined() -> set[str]:
    """Return what b2d's modules define: classes, functions, constants, fields; and the modules' own names."""
    names = set()
    for path in (ROOT / "b2d").rglob("*.py"):
        names |= {path.stem, path.parent.name}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


def test_named_code_exists() -> None:
    known = defined()
    quoted = [word for word in CODE.findall(PAGE) if NAME.fullmatch(word) and ("." in word or "_" in word)]
    dotted = [word.removesuffix("()") for word in (*quoted, *CALL.findall(PAGE))]
    assert len(dotted) > 50
    unknown = {word for word in dotted if word.rpartition(".")[2] not in known and not FILE.fullmatch(word)}
    assert unknown - FOREIGN == set()


MODULES = sorted({word for word in CODE.findall(PAGE) if FILE.fullmatch(word) and word.endswith(".py")})


@pytest.mark.parametrize("name", MODULES)
def test_named_files_exist(name: str) -> None:
    places = [ROOT, ROOT / "b2d", *(ROOT / "b2d").iterdir()]
    folders = [place for place in places if place.is_dir() and (place / name).is_file()]
    assert folders or list((ROOT / "b2d").rglob(name)) or list((ROOT / "tests").rglob(name))
