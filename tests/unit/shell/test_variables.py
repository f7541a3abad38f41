"""The variables that shellinit changes, and their original values for `--unset`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.shell import variables
from b2d.shell.detect import is_plain
from b2d.shell.variables import BEFORE, DOCKER, set_changes, unset_changes

ONE = {"DOCKER_HOST": "tcp://127.0.59.103:2376", "DOCKER_CERT_PATH": "/one's", "DOCKER_TLS_VERIFY": "1"}
TWO = {"DOCKER_HOST": "tcp://127.0.59.104:2375"}
MINE = {"DOCKER_HOST": "ssh://me@there, or so", "DOCKER_TLS_VERIFY": "%0"}
PROXY = {"HTTPS_PROXY": "http://proxy:3128"}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def environment_after(environ: dict[str, str], *docker: dict[str, str]) -> dict[str, str]:
    """Return the environment of a shell that evaluated shellinit for each machine in turn; {} stands for --unset."""
    for wanted in docker:
        changes = set_changes(wanted, environ) if wanted else unset_changes(environ)
        environ = {name: value for name, value in (environ | changes).items() if value}
    return environ


def proxy_exceptions(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name in variables.NO_PROXY}


def test_the_variables_select_exactly_one_machine() -> None:
    assert {name: environment_after(MINE, ONE).get(name) for name in DOCKER} == ONE
    assert {name: environment_after(MINE, ONE, TWO).get(name, "") for name in DOCKER} == dict.fromkeys(DOCKER, "") | TWO


@pytest.mark.parametrize("environ", [{}, MINE, {"DOCKER_CERT_PATH": "/mine"}, {"NO_PROXY": "a, b"}])
@pytest.mark.parametrize("way", [[ONE], [ONE, ONE], [ONE, TWO], [ONE, TWO, ONE, ONE], [ONE, {}, TWO], [ONE, {}, {}]])
def test_unset_restores_the_previous_values(environ: dict[str, str], way: list[dict[str, str]]) -> None:
    assert environment_after(environ, *way, {}) == environ


def test_unset_ignores_variables_that_shellinit_did_not_set() -> None:
    assert unset_changes(MINE) == {}
    assert unset_changes(MINE | {BEFORE: "whatever"}) == {}
    assert unset_changes(MINE | {BEFORE: "a,b,c,%zz,"}) == {}


def test_a_value_set_after_shellinit_is_the_previous_value_of_the_next_one() -> None:
    environ = environment_after(MINE, ONE) | {"DOCKER_HOST": "tcp://theirs:1"}
    assert environment_after(environ, TWO, {})["DOCKER_HOST"] == "tcp://theirs:1"
    assert environment_after(MINE | {"DOCKER_HOST": ""}, ONE, {}) == {"DOCKER_TLS_VERIFY": "%0"}


def test_a_variable_unset_by_hand_does_no_harm() -> None:
    environ = environment_after(MINE, ONE)
    del environ["DOCKER_HOST"]
    assert environment_after(environ, ONE, {}) == MINE


def test_the_record_in_the_bare_form_is_valid() -> None:
    environ = environment_after(MINE, TWO)
    assert environment_after(environ | {BEFORE: environ[BEFORE] + ";unset"}, {}) == MINE
    assert unset_changes(MINE | {BEFORE: ";unset"}) == {}


@given(st.dictionaries(st.sampled_from([*DOCKER, BEFORE, "HTTP_PROXY", "no_proxy", "NO_PROXY"]), TEXT))
def test_evaluating_twice_equals_once_for_any_environment(environ: dict[str, str]) -> None:
    once = environment_after(environ, ONE)
    assert environment_after(once, ONE) == once
    assert is_plain(once[BEFORE])
    before = {name: value for name, value in environ.items() if name in DOCKER}
    assert {name: value for name, value in environment_after(once, {}).items() if name in DOCKER} == before


@pytest.mark.parametrize("proxy", variables.PROXIES)
@pytest.mark.parametrize(
    ("had", "has"),
    [
        ({}, {"NO_PROXY": "127.0.59.103"}),
        ({"NO_PROXY": "localhost,.corp"}, {"NO_PROXY": "localhost,.corp,127.0.59.103"}),
        ({"no_proxy": "localhost"}, {"no_proxy": "localhost,127.0.59.103"}),
        ({"NO_PROXY": "a", "no_proxy": "b"}, {"NO_PROXY": "a,127.0.59.103", "no_proxy": "b,127.0.59.103"}),
        ({"NO_PROXY": "a, 127.0.59.103 ,b"}, {"NO_PROXY": "a, 127.0.59.103 ,b"}),
        ({"NO_PROXY": "127.0.59.1030"}, {"NO_PROXY": "127.0.59.1030,127.0.59.103"}),
        ({"NO_PROXY": "*"}, {"NO_PROXY": "*"}),
    ],
)
def test_the_machine_is_reached_without_a_proxy(proxy: str, had: dict[str, str], has: dict[str, str]) -> None:
    environ = had | {proxy: "http://proxy:3128"}
    assert (
        proxy_exceptions(environment_after(environ, ONE))
        == proxy_exceptions(environment_after(environ, ONE, ONE))
        == has
    )
    assert environment_after(environ, ONE, {}) == environ


def test_without_a_proxy_no_proxy_is_unchanged() -> None:
    assert proxy_exceptions(environment_after({"NO_PROXY": "a"}, ONE)) == {"NO_PROXY": "a"}


def test_no_proxy_contains_the_selected_machine() -> None:
    assert proxy_exceptions(environment_after(PROXY | {"NO_PROXY": "a"}, ONE, TWO)) == {"NO_PROXY": "a,127.0.59.104"}
    assert proxy_exceptions(environment_after(PROXY | {"NO_PROXY": "127.0.59.103"}, ONE, TWO, {})) == {
        "NO_PROXY": "127.0.59.103"
    }


def test_an_entry_added_to_no_proxy_stays() -> None:
    environ = environment_after(PROXY, ONE)
    environ["NO_PROXY"] += ",theirs"
    assert proxy_exceptions(environment_after(environ, ONE, {})) == {"NO_PROXY": "theirs"}
