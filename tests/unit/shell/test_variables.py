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


def test_a_shell_is_pointed_at_the_machine_and_at_no_other() -> None:
    assert {name: environment_after(MINE, ONE).get(name) for name in DOCKER} == ONE
    assert {name: environment_after(MINE, ONE, TWO).get(name, "") for name in DOCKER} == dict.fromkeys(DOCKER, "") | TWO


@pytest.mark.parametrize("environ", [{}, MINE, {"DOCKER_CERT_PATH": "/mine"}, {"NO_PROXY": "a, b"}])
@pytest.mark.parametrize("way", [[ONE], [ONE, ONE], [ONE, TWO], [ONE, TWO, ONE, ONE], [ONE, {}, TWO], [ONE, {}, {}]])
def test_unset_makes_it_what_it_was_before(environ: dict[str, str], way: list[dict[str, str]]) -> None:
    assert environment_after(environ, *way, {}) == environ


def test_unset_leaves_alone_what_no_shellinit_set() -> None:
    assert unset_changes(MINE) == {}
    assert unset_changes(MINE | {BEFORE: "whatever"}) == {}
    assert unset_changes(MINE | {BEFORE: "a,b,c,%zz,"}) == {}


def test_what_somebody_set_after_shellinit_is_what_was_before_the_next() -> None:
    environ = environment_after(MINE, ONE) | {"DOCKER_HOST": "tcp://theirs:1"}
    assert environment_after(environ, TWO, {})["DOCKER_HOST"] == "tcp://theirs:1"
    assert environment_after(MINE | {"DOCKER_HOST": ""}, ONE, {}) == {"DOCKER_TLS_VERIFY": "%0"}


def test_what_somebody_unset_by_hand_does_not_confuse_it() -> None:
    environ = environment_after(MINE, ONE)
    del environ["DOCKER_HOST"]
    assert environment_after(environ, ONE, {}) == MINE


def test_what_the_bare_form_leaves_of_the_memory_is_the_memory() -> None:
    environ = environment_after(MINE, TWO)
    assert environment_after(environ | {BEFORE: environ[BEFORE] + ";unset"}, {}) == MINE
    assert unset_changes(MINE | {BEFORE: ";unset"}) == {}


@given(st.dictionaries(st.sampled_from([*DOCKER, BEFORE, "HTTP_PROXY", "no_proxy", "NO_PROXY"]), TEXT))
def test_twice_is_once_whatever_was_there(environ: dict[str, str]) -> None:
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


def test_where_there_is_no_proxy_there_is_nothing_to_say() -> None:
    assert proxy_exceptions(environment_after({"NO_PROXY": "a"}, ONE)) == {"NO_PROXY": "a"}


def test_the_list_holds_the_machine_that_is_pointed_at() -> None:
    assert proxy_exceptions(environment_after(PROXY | {"NO_PROXY": "a"}, ONE, TWO)) == {"NO_PROXY": "a,127.0.59.104"}
    assert proxy_exceptions(environment_after(PROXY | {"NO_PROXY": "127.0.59.103"}, ONE, TWO, {})) == {
        "NO_PROXY": "127.0.59.103"
    }


def test_what_somebody_added_to_the_list_stays_in_it() -> None:
    environ = environment_after(PROXY, ONE)
    environ["NO_PROXY"] += ",theirs"
    assert proxy_exceptions(environment_after(environ, ONE, {})) == {"NO_PROXY": "theirs"}
