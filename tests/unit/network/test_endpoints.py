"""Proxies, registries and name servers: the forms that users write, and those that the guest gets."""

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2d.network import endpoints


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("proxy.corp:3128", "http://proxy.corp:3128"),
        ("HTTPS://proxy/", "https://proxy"),
        ("socks5://10.1.2.3:1080", "socks5://10.1.2.3:1080"),
        ("http://localhost:3128", "http://10.0.2.2:3128"),
        ("http://me:pw@127.0.0.1:8080/", "http://me:pw@10.0.2.2:8080"),
        ("http://[::1]:8080", "http://10.0.2.2:8080"),
        ("http://[fd00::1]:8080", "http://[fd00::1]:8080"),
        ("http://me@proxy", "http://me@proxy"),
        ("http://corp\\me:p@ss:w?rd/#%&@proxy:1", "http://corp%5Cme:p%40ss%3Aw%3Frd%2F%23%25%26@proxy:1"),
        ("http://me:p%40ss@proxy:1", "http://me:p%40ss@proxy:1"),
        ("me:a://b@proxy:1", "http://me:a%3A%2F%2Fb@proxy:1"),
        ("http://me:@proxy:1", "http://me:@proxy:1"),
        ("http://me:\N{SNOWMAN} %zz@proxy:1", "http://me:%E2%98%83%20%25zz@proxy:1"),
    ],
)
def test_a_proxy_is_rewritten_for_the_guest(written: str, url: str) -> None:
    assert endpoints.guest_proxy(written) == url


@pytest.mark.parametrize(
    "text", ["http://", "ftp://proxy:1", "not a proxy", "http://proxy:70000", "http://proxy/path", "http://a:\n@b", "@"]
)
def test_an_invalid_proxy_is_empty(text: str) -> None:
    assert endpoints.guest_proxy(text) == ""


@given(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="%"), min_size=1))
def test_every_password_is_preserved(password: str) -> None:
    parts = urlsplit(endpoints.guest_proxy(f"http://me:{password}@proxy:3128"))
    assert (parts.username, unquote(parts.password or ""), parts.hostname, parts.port) == (
        "me",
        password,
        "proxy",
        3128,
    )


@given(st.text(min_size=1).filter(lambda text: text not in "http://me:***@proxy:3128"))
def test_shown_addresses_contain_no_password(password: str) -> None:
    assert endpoints.without_password(f"http://me:{password}@proxy:3128").endswith(":***@proxy:3128")
    assert password not in endpoints.without_password(f"http://me:x{password}x@proxy:3128")
    for plain in ("http://proxy:3128", "http://me@proxy:3128"):
        assert endpoints.without_password(plain) == plain


@pytest.mark.parametrize("text", ["me:geheim://@proxy", "http://me:geheim://x@proxy", "['https://me:geheim@one']"])
def test_passwords_in_invalid_addresses_are_hidden_too(text: str) -> None:
    assert "geheim" not in endpoints.without_password(text)


def test_mirrors_and_name_servers_on_this_host_are_rewritten_for_the_guest() -> None:
    assert endpoints.guest_mirror("http://localhost:5000/") == "http://10.0.2.2:5000/"
    assert endpoints.guest_mirror("https://mirror.corp/docker") == "https://mirror.corp/docker"
    assert endpoints.guest_name_server("127.0.0.1") == endpoints.guest_name_server("::1") == "10.0.2.2"
    assert endpoints.guest_name_server("fd00::53") == "fd00::53"


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("http_proxy", "proxy:3128", "ftp://proxy"),
        ("https_proxy", "https://proxy", "two words"),
        ("no_proxy", "*.corp, 10.0.0.0/8", "a\nb"),
        ("registry_mirrors", ("https://one", "http://two:5000"), ("https://me:pw@one",)),
        ("registry_mirrors", (), ("mirror.corp",)),
        ("dns", (), ("",)),
        ("ca", ("~/one", "/etc/ssl/company.pem"), ("company.pem",)),
        ("insecure_registries", ("one:5000", "10.0.0.0/8", "[::1]:5000", "fd00::/8"), ("http://one",)),
        ("dns", ("192.168.0.1", "fd00::53"), ("192.168.0.1", "dns.corp")),
    ],
)
def test_an_invalid_value_is_refused_with_a_hint(key: str, good: object, bad: object) -> None:
    assert endpoints.proxy_refusal(key, good) == ""
    assert endpoints.proxy_refusal(key, bad) == endpoints.HINTS[key]


def test_lower_case_variables_of_this_host_come_first_and_all_proxy_last() -> None:
    environ = {"HTTP_PROXY": "http://b", "http_proxy": "http://a", "ALL_PROXY": "http://c", "NO_PROXY": "", "x": "y"}
    assert endpoints.host_proxies(environ) == {
        "http_proxy": ("http_proxy", "http://a"),
        "https_proxy": ("ALL_PROXY", "http://c"),
    }


def test_the_guest_reaches_only_one_loopback_address_of_this_host() -> None:
    assert endpoints.is_unreachable("http://me:pw@127.0.0.53:3128")
    assert endpoints.is_unreachable("127.0.0.53")
    assert not endpoints.is_unreachable(endpoints.guest_proxy("127.0.0.1:3128"))
    assert not endpoints.is_unreachable("8.8.8.8")
