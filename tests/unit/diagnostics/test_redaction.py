"""Redaction: no secret in any form, and all of the remaining text."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.diagnostics.redaction import Redaction, _without_keys, find_credentials, find_secret_values
from b2d.network.endpoints import REDACTED
from tests.support.timing import cpu_limit

SECRET = "hunter2hunter2"
MIB = 1 << 20
BODY = "\n".join(["MHcCAQEEIJ+yFbV8tUu3KoZ0s6m1"] * 3)
PEM = f"-----BEGIN EC PRIVATE KEY-----\n{BODY}\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"http://me:{SECRET}@proxy:3128/",
        f"https://{SECRET}@mirror.example/debian",
        f"ftp://me:a@b{SECRET}@host/x",
        f"me:{SECRET}@proxy:3128",
        f"https://mirror.example/b2d.iso?X-Amz-Signature={SECRET}&x=1",
        f"https://mirror.example/b2d.iso#{SECRET}",
        f"password={SECRET}",
        f"PASSWORD = '{SECRET} and more {SECRET}'",
        f'{{"password": "{SECRET}"}}',
        f'{{"identitytoken" : "{SECRET}", "other": 1}}',
        f'msg="{{\\"auth\\":\\"{SECRET}\\"}}"',
        f"{{'Authorization': 'Bearer {SECRET}'}}",
        f"Authorization: Basic {SECRET}",
        f"X-Registry-Auth: {SECRET}",
        f"Set-Cookie: a=b; path=/; id={SECRET}",
        f"password='a {SECRET}",
        f"DB_PASS=a,{SECRET};b",
        f'{{"api_key":"a","token":1,"secret":"a,{SECRET}"}}',
        f"--token 'a {SECRET}'",
        f"b2d --proxy-password {SECRET} up",
        f"['--api-key', '{SECRET}']",
        f"export GITHUB_TOKEN={SECRET}",
        f"aws_secret_access_key = {SECRET}",
        "ghp_" + SECRET * 3,
        "github_pat_" + SECRET * 3,
        f"eyJhbGciOiJIUzI1NiJ9.{SECRET}.{SECRET}",
        PEM.replace("MHcC", SECRET),
        json.dumps({"log": PEM.replace("MHcC", SECRET)}),
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n{SECRET}",
    ],
)
def test_text_that_looks_like_a_secret_is_redacted(text: str) -> None:
    cleaned = Redaction(()).clean(f"before {text}\nafter")
    assert SECRET not in cleaned
    assert REDACTED in cleaned
    assert cleaned.startswith("before ")


@pytest.mark.parametrize(
    "text",
    [
        "b2d: 12.3 ready\nroot=/dev/vda console=ttyS0",
        '{"name": "authorities", "verdict": "good", "message": "those of requests"}',
        '"ssh_password": {"value": false, "origin": "default"}',
        "authority/server-key.pem  passed 3 tests",
        "https://mirror.example.com/debian/dists",
        "0" * 64,
        "tcp://127.0.59.103:2376",
        "a token ended, and its signature is wrong",
    ],
)
def test_text_without_secrets_is_unchanged(text: str) -> None:
    assert Redaction((), ["/home/maria"], ["maria"]).clean(text) == text


def test_a_known_secret_is_redacted_in_every_encoding() -> None:
    secret = 'p"ä\\ss/w:rd'
    clean = Redaction([secret]).clean
    for text in (secret, json.dumps(secret), repr(secret), "p%22%C3%A4%5Css%2Fw%3Ard"):
        assert REDACTED in clean(f"it is {text}.")
        assert "rd" not in clean(f"it is {text}.").replace("card", "")


def test_surrogate_escapes_match_the_same_letters() -> None:
    halves = "grüße".encode().decode("ascii", "surrogateescape")
    for known, text in ((halves, "grüße"), ("grüße", halves), (halves, halves), ("grüße", json.dumps("grüße"))):
        assert "gr" not in Redaction([known]).clean(f"a {text} b")
    assert Redaction(()).clean("\ud800\udcff").encode() != b""


@pytest.mark.parametrize("noise", ["y", "a:b", "%:", "pass", "token", "-", '"-', "\\a", 'x="', "eyJaaaaaaaa.", "://"])
def test_noise_of_a_guest_is_redacted_quickly(noise: str) -> None:
    with cpu_limit(5):
        Redaction(["secret"]).clean('password="' + noise * (60_000 // len(noise)))


def test_the_longer_of_two_secrets_is_redacted_first_and_short_ones_are_ignored() -> None:
    assert Redaction(["abcd", "abcdefgh", "a", ""]).clean("abcdefgh a") == f"{REDACTED} a"


def test_user_names_and_home_paths_are_redacted() -> None:
    clean = Redaction((), ["/home/maria", "/"], ["maria", "root", "x"]).clean
    assert clean("/home/maria/.b2d of maria, root and mariachi on /x") == "~/.b2d of ~, root and mariachi on /x"


@given(st.text(), st.text(alphabet=st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=30))
def test_a_known_secret_never_appears_in_the_output(text: str, secret: str) -> None:
    cleaned = Redaction([secret]).clean(f"{text}{secret}{text} {secret}")
    assert secret not in cleaned.replace(REDACTED, " ")


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.booleans()))
def test_redacted_json_stays_valid(document: dict[str, object]) -> None:
    document |= {
        "password": 'it\'s "quoted"',
        "token": None,
        "api_key": 12345,
        "secret": {"value": [1, True]},
        "auth": 'x\\"}',
    }
    for indent in (None, 2):
        json.loads(Redaction(["quoted"]).clean(json.dumps(document, indent=indent)))


def test_passwords_are_found_in_addresses_and_in_named_values() -> None:
    assert "geheim" in set(find_credentials("HTTP_PROXY=http://me:geheim@proxy:3128"))
    assert {"ge%20heim", "ge heim"} <= set(find_credentials("me:ge%20heim@proxy"))
    assert list(find_secret_values({"auths": {"r": {"auth": "bWU6eA==", "n": 1}}, "l": [{"identitytoken": "t"}]})) == [
        "bWU6eA==",
        "t",
    ]


BEGIN, END = "-----BEGIN A KEY-----", "-----END A KEY-----"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"a{BEGIN}\nMHc\n{END}b{BEGIN}MHc{END}c", f"a{REDACTED}b{REDACTED}c"),
        (f"{END}a{BEGIN}MHc\n, and more", f"{END}a{REDACTED}, and more"),
        (f"{BEGIN}MHc\n{BEGIN}MHc{END}a", f"{REDACTED}a"),
        (f"{BEGIN}MHc." + "." * 30_000 + f"{END}a", f"{REDACTED}." + "." * 30_000 + f"{END}a"),
    ],
)
def test_private_keys_are_redacted_and_text_between_them_stays(text: str, left: str) -> None:
    assert Redaction([]).clean(text) == left


@pytest.mark.parametrize("text", [BEGIN, f"{BEGIN}\n", f"{END}{BEGIN}", f"{BEGIN}." + "." * 20_001, "-----BEGIN "])
def test_many_begin_markers_of_keys_take_linear_time(text: str) -> None:
    """A guest can fill its log with them."""
    begin = time.process_time()
    _without_keys(text * (MIB // len(text)))
    assert time.process_time() - begin < 3
