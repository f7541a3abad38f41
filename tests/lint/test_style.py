"""House style rules that no linter has; the linters are a step of their own (tests/lint)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from b2d.cli.main import VERBS
from tests.support.paths import ROOT

PACKAGE = ROOT / "b2d"
CODE = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 40, 6
SLEEPERS = {"host/polling.py"}
SPEAKERS = {"cli/base.py", "cli/main.py", "cli/machine.py", "reporting/terminal.py", "__main__.py"}
SPEAKERS |= {"guest/ssh/terminal.py", "guest/ssh/streams.py"}
LEAVERS = {"__main__.py", "app/agent_process.py"}  # the entry points of processes
# a library without more precise errors; the handler of unexpected errors; its caller
BROAD = {"image/build/signature.py", "cli/main.py", "__main__.py"}

# names that do not say what they hold
BANNED = {"asked", "found", "gone", "heard", "here", "how", "it", "itself", "kept", "made", "meant", "one", "said"}
BANNED |= {"seen", "that", "them", "there", "they", "this", "those", "told", "what", "who", "whom", "whose"}

# private or archaic English; a test's name is a sentence for a reader who knows Docker, Linux and Python
BANNED_IN_TEST_NAMES = {"anew", "anybody", "asleep", "brought", "came", "ever", "everybody", "goes", "going", "gone"}
BANNED_IN_TEST_NAMES |= {"had", "hear", "heard", "hears", "heed", "heeded", "heeds", "kept", "led", "lie", "lies"}
BANNED_IN_TEST_NAMES |= {"likewise", "matter", "meant", "meanwhile", "mend", "mended", "mends", "naught", "nobody"}
BANNED_IN_TEST_NAMES |= {"obey", "obeys", "odd", "said", "somebody", "speak", "speaks", "spoilt", "spoken", "tell"}
BANNED_IN_TEST_NAMES |= {"tells", "thing", "things", "told", "vain", "what", "whatever", "who", "whoever", "whom"}
BANNED_IN_TEST_NAMES |= {"whose", "wish", "wished"}

HOST_VERBS = {"list", "import", "download", "iso", "config", "doctor", "support", "completion", "version"}
COMMAND = re.compile(rf"\bb2d (?:{'|'.join(set(VERBS) - HOST_VERBS)})\b")
# commands without a machine, those with the name of another machine, and text that is not a command
LITERAL_COMMANDS = {
    "b2d init --vm NAME",
    "B2D_SHARE=none b2d up --vm NEW",
    "save the data with docker save and docker export, then: b2d up --vm NEW",
    "b2d cp FILE :PATH",
    "only `b2d init` can copy a disk",
    "the console is always logged: b2d logs",
    ", while b2d ssh and docker.sock work",
    'b2d up && eval "$(b2d shellinit)" && docker ps',
}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_file_is_too_long() -> None:
    long = [path.name for path in CODE if len(path.read_text().splitlines()) > FILE_LINES]
    assert long == []


def test_no_function_is_long_or_has_too_many_parameters() -> None:
    violations = []
    for path in CODE:
        for function in functions(path):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            arguments = function.args
            count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
            count -= bool(arguments.args and arguments.args[0].arg in ("self", "cls"))
            if lines > FUNCTION_LINES or count > PARAMETERS:
                violations.append(f"{path.name}: {function.name}: {lines} lines, {count} parameters")
    assert violations == []


def test_every_module_and_public_class_has_a_docstring() -> None:
    violations = []
    for path in CODE:
        tree = ast.parse(path.read_text())
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        violations += [path.name] if ast.get_docstring(tree) is None else []
        violations += [f"{path.name}: {node.name}" for node in classes if ast.get_docstring(node) is None]
    assert violations == []


def names(path: Path) -> Iterator[str]:
    """Yield the names that a module defines: functions, classes, parameters, variables and attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def test_only_requirements_py_skips_tests() -> None:
    """tests/support/requirements.py, which fails it in continuous integration."""
    skips = re.compile(r"pytest\.(mark\.skip|mark\.xfail|skip|importorskip|xfail)\b")
    assert [path.name for path in TESTS if skips.search(path.read_text())] == ["requirements.py"]


def test_names_describe_their_values() -> None:
    violations = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*CODE, *TESTS)
        for name in sorted(set(names(path)))
        if name.strip("_") in BANNED
    ]
    assert violations == []


def test_names_of_tests_are_plain_english() -> None:
    violations = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in TESTS
        for name in names(path)
        if name.lower().startswith("test_") and BANNED_IN_TEST_NAMES & set(name.lower().split("_"))
    ]
    assert violations == []


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("time.sleep(", SLEEPERS),
        ("sys.exit(", LEAVERS),
        ("sys.stdout", SPEAKERS),
        (" print(", set()),
        ("click.echo", set()),
        ("click.secho", set()),
        ("sys.stderr.write", {"__main__.py", "reporting/stderr.py"}),
        ("Console(", {"reporting/terminal.py", "drivers/base.py"}),
        ("rich.table import Table", set()),
        ("except Exception", BROAD),
    ],
)
def test_some_calls_are_allowed_in_one_module_only(text: str, allowed: set[str]) -> None:
    assert {path.relative_to(PACKAGE).as_posix() for path in CODE if text in path.read_text()} <= allowed


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module without its docstrings and the examples of its commands."""
    tree = ast.parse(path.read_text())
    ignored = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    ignored |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "example"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored:
            yield node.value


def test_a_command_for_a_machine_names_the_machine() -> None:
    """machine_names.command_for adds --vm; a text with the command itself would lack it."""
    commands = {text for path in CODE for text in texts(path) if COMMAND.search(text)}
    assert commands == LITERAL_COMMANDS
