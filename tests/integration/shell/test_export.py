"""The output of shellinit, evaluated by every real shell that is available here."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b2d.shell import export
from tests.support.shells import SH, RealShell

Get = Callable[[str], RealShell]
TLS = {"DOCKER_HOST": "tcp://127.0.59.103:2376", "DOCKER_CERT_PATH": "/home/me/.b2d/certs", "DOCKER_TLS_VERIFY": "1"}
OLD = {"DOCKER_HOST": "old", "DOCKER_CERT_PATH": "old", "DOCKER_TLS_VERIFY": "old", "B2D_BEFORE": "old"}
MEMORY = {"B2D_BEFORE": "tcp://127.0.59.103:2376,,,,"}
ODD = [
    '/home/José Ångström/it\'s $HOME `id` "x"',
    "/a\\b\\\\c\\",
    "/!x !! ^a^b #no ~root *?[a-z]{1,2}",
    "/;id|id&id<x>(y)",
    "=ls:=ls:~",
    "  two  blanks\tand a tab ",
    "漢字 🐳 \u2018x\u2019 \u201ey\u201c \u00a0.",
    "%s %41 $$ ${HOME} $(id)",
    "-n",
    "'",
    "\"'\"'",
]
SIGNS = st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.characters(
    min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]
)  # any bytes


@pytest.fixture(params=list(SH))
def posix(request: pytest.FixtureRequest, real_shell: Get) -> RealShell:
    return real_shell(request.param)


def docker_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name in OLD}


def with_path(path: str, shell: RealShell) -> str:
    return export.render(TLS | {"DOCKER_CERT_PATH": path} | MEMORY, shell.family)


def test_every_shell_gets_the_variables_of_docker(shell: RealShell) -> None:
    text = export.render(TLS | MEMORY, shell.family)
    assert list(map(docker_variables, shell.evaluate([text, text], OLD))) == [TLS | MEMORY] * 2


def test_unset_variables_are_removed(shell: RealShell) -> None:
    some = {"DOCKER_HOST": "ssh://me@there", "DOCKER_CERT_PATH": "", "DOCKER_TLS_VERIFY": "", "B2D_BEFORE": ""}
    every = dict.fromkeys(OLD, "")
    texts = [export.render(changes, shell.family) for changes in (some, every, every)]
    assert list(map(docker_variables, shell.evaluate(texts, OLD))) == [{"DOCKER_HOST": "ssh://me@there"}, {}, {}]


def test_without_changes_the_output_is_empty(shell: RealShell) -> None:
    assert export.render({}, shell.family) == ""
    assert list(map(docker_variables, shell.evaluate([""], OLD))) == [OLD]


def test_paths_with_special_characters_are_preserved(shell: RealShell) -> None:
    environments = shell.evaluate([with_path(path, shell) for path in ODD], {})
    assert [environ["DOCKER_CERT_PATH"] for environ in environments] == ODD


def bytes_of(paths: list[str]) -> list[bytes]:
    return [path.encode("utf-8", "surrogateescape") for path in paths]


def paths_that_arrive(shell: RealShell, paths: list[str], form: str = "") -> list[bytes]:
    environments = shell.evaluate([with_path(path, shell) for path in paths], {}, form)
    return bytes_of([environ["DOCKER_CERT_PATH"] for environ in environments])


@settings(max_examples=25, deadline=None)
@given(paths=st.lists(st.text(SIGNS, min_size=1), min_size=1, max_size=40))
@pytest.mark.parametrize("name", [*SH, "fish"])
def test_any_path_is_preserved(real_shell: Get, name: str, paths: list[str]) -> None:
    assert paths_that_arrive(real_shell(name), paths) == bytes_of(paths)


@settings(max_examples=25, deadline=None)
@given(paths=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n"), min_size=1), min_size=1))
@pytest.mark.parametrize("name", ["tcsh", "bsd-csh", "nu"])
def test_any_unicode_path_of_one_line_is_preserved_by_other_shells(
    real_shell: Get, name: str, paths: list[str]
) -> None:
    assert paths_that_arrive(real_shell(name), paths) == bytes_of(paths)


@settings(max_examples=25, deadline=None)
@given(paths=st.lists(st.text(SIGNS.filter(lambda sign: sign not in " \t\n"), min_size=1), min_size=1, max_size=40))
@pytest.mark.parametrize("name", list(SH))
def test_the_bare_form_of_2014_preserves_every_path_without_blanks(
    real_shell: Get, name: str, paths: list[str]
) -> None:
    if name == "ksh":  # it expands {a,b} to two words, even in the output of a command
        paths = [path.replace("{", "-") for path in paths]
    assert paths_that_arrive(real_shell(name), paths, "$({})") == bytes_of(paths)


@pytest.mark.parametrize("form", ["$({})", "eval $({})"])
def test_unquoted_eval_and_the_bare_form_work_too(posix: RealShell, form: str) -> None:
    odd = ["".join(path.split()).replace("{", "-" if posix.name == "ksh" else "{") for path in ODD]
    assert paths_that_arrive(posix, odd, form) == bytes_of(odd)
    assert list(map(docker_variables, posix.evaluate([posix_text(TLS | MEMORY)] * 2, OLD, form))) == [TLS | MEMORY] * 2


@pytest.mark.parametrize("path", ["ssh://me@there", "it's"])
def test_the_bare_form_at_least_empties_removed_variables(posix: RealShell, path: str) -> None:
    changes = {"DOCKER_HOST": path, "DOCKER_CERT_PATH": "", "DOCKER_TLS_VERIFY": "", "B2D_BEFORE": "memory"}
    (environment,) = posix.evaluate([posix_text(changes)], OLD, "$({})")
    assert docker_variables(environment) | {"B2D_BEFORE": environment["B2D_BEFORE"].partition(";")[0]} == changes


def posix_text(changes: dict[str, str]) -> str:
    text = export.render(changes, "sh")
    assert text.count("\n") == 1
    return text


@pytest.mark.parametrize(  # neither is available here
    ("family", "path", "line"),
    [
        ("powershell", r"C:\it's", r"$Env:DOCKER_CERT_PATH = 'C:\it''s'"),
        (
            "powershell",
            "ü\n🐳\u2018",
            "$Env:DOCKER_CERT_PATH = ''+[char]252+''+[char]10+''+[char]55357+[char]56371+''+[char]8216+''",
        ),
        ("powershell", "", "Remove-Item Env:DOCKER_CERT_PATH -ErrorAction Ignore"),
        ("cmd", "/a/b", "SET DOCKER_CERT_PATH=/a/b"),
        ("cmd", r"C:\a b&c", r'SET "DOCKER_CERT_PATH=C:\a b&c"'),
        ("cmd", "", 'SET "DOCKER_CERT_PATH="'),
    ],
)
def test_powershell_and_cmd_get_their_own_syntax(family: str, path: str, line: str) -> None:
    assert export.render(TLS | {"DOCKER_CERT_PATH": path}, family).splitlines()[1] == line
