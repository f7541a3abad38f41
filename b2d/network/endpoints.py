"""Proxies, registries and name servers as people write them: which can be, and how the guest says the same."""

import re
from collections.abc import Mapping
from pathlib import PurePath

GATEWAY = "10.0.2.2"  # this host's 127.0.0.1, as the hypervisors' own networks show it to the guest
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")
PROXIES = ("http_proxy", "https_proxy")
VARIABLES = {  # of this host, the first that is there
    "http_proxy": ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "https_proxy": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "no_proxy": ("no_proxy", "NO_PROXY"),
}
HINTS = {
    "http_proxy": "as http://user:password@proxy:3128",
    "https_proxy": "as http://user:password@proxy:3128",
    "no_proxy": "names and addresses with commas between",
    "ca": "whole paths of files, as /etc/ssl/company.pem",
    "registry_mirrors": "addresses, as https://mirror.example.com",
    "insecure_registries": "registries, as registry.example.com:5000 or 192.168.0.0/24",
    "dns": "addresses of name servers, as 192.168.0.1",
}
SCHEMES = ("http://", "https://", "socks5://", "socks5h://")  # those that Docker knows
SCHEME = re.compile(r"(?:[a-zA-Z][\w+.\-]*://)?", re.ASCII)
HOST = r"(\[[0-9a-fA-F:.]+\]|[\w.\-]+)(:\d{1,5})?"
SERVER = re.compile(f"{HOST}/?", re.ASCII)
MIRROR = re.compile(rf"(https?://){HOST}(/[\w.~/\-]*)?", re.ASCII)
REGISTRY = re.compile(rf"{HOST}|[0-9a-fA-F:.]+/\d{{1,3}}", re.ASCII)
GONE = "***"
LONE_PERCENT = re.compile("%(?![0-9a-fA-F]{2})")


def host_proxies(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What this host's own variables say: of each setting the variable and its value."""
    found = {}
    for key, names in VARIABLES.items():
        if name := next((name for name in names if environ.get(name)), ""):
            found[key] = (name, environ[name])
    return found


def proxy_refusal(key: str, value: object) -> str:
    """What can be, where the value of that setting cannot; "" where it can. An empty text says nothing, and can."""
    check = _CHECKS.get(key)
    if check is None or value == "":
        return ""
    return "" if all(map(check, value if isinstance(value, tuple) else (str(value),))) else HINTS[key]


def proxy(text: str) -> str:
    """Its address for the guest, with all quoted that an address cannot hold; "" for what can be none.

    Of the name and the password only the first colon and the last @ are signs of the address. A % before two digits of
    a hexadecimal number is taken for quoted already, as it is where somebody's own variable has such an address.
    """
    scheme, user, password, server = _parts(text)
    scheme = scheme.lower() or "http://"
    found = SERVER.fullmatch(server)
    if scheme not in SCHEMES or found is None or not text.isprintable() or _port(found[2]) is None:
        return ""
    host = GATEWAY if found[1].lower() in LOCAL_NAMES else found[1]
    who = ":".join(_quoted(part) for part in (user, password) if part is not None)
    return f"{scheme}{who}{'@' if user is not None else ''}{host}{found[2] or ''}"


def mirror(text: str) -> str:
    """The same for a registry's mirror."""
    found = MIRROR.fullmatch(text)
    if found is None or _port(found[3]) is None:
        return ""
    host = GATEWAY if found[2].lower() in LOCAL_NAMES else found[2]
    return f"{found[1]}{host}{found[3] or ''}{found[4] or ''}"


def name_server(text: str) -> str:
    """The same for a name server."""
    from ipaddress import ip_address

    try:
        address = str(ip_address(text))
    except ValueError:
        return ""
    return GATEWAY if address in LOCAL_NAMES else address


def unreachable_hosts(told: str) -> bool:
    """True for what the guest is told in vain: of this host's own addresses it reaches one alone."""
    host = told.partition("://")[2].rpartition("@")[2] or told
    return host.startswith("127.")


def without_password(text: str) -> str:
    """A proxy's address for eyes: without the password."""
    scheme, user, password, server = _parts(text)
    return text if password is None else f"{scheme}{user}:{GONE}@{server}"


def secret(text: str) -> str:
    """Its password as it is written, "" where it has none."""
    return _parts(text)[2] or ""


def _parts(text: str) -> tuple[str, str | None, str | None, str]:
    """Of a proxy's address its scheme, user, password and server; None for what is not there."""
    scheme = SCHEME.match(text)
    begin = scheme.end() if scheme else 0
    who, at, server = text[begin:].rpartition("@")
    user, colon, password = who.partition(":")
    return text[:begin], user if at else None, password if colon else None, server


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(LONE_PERCENT.sub("%25", text), safe="%")


def _port(text: str | None) -> int | None:
    """0 where none is said, None for one that cannot be."""
    port = int(text[1:]) if text else 0
    return port if port <= 65535 else None


def _is_path(text: str) -> bool:
    return text.startswith("~") or PurePath(text).is_absolute()


def _is_registry(text: str) -> bool:
    return REGISTRY.fullmatch(text) is not None


_CHECKS = {
    "http_proxy": proxy,
    "https_proxy": proxy,
    "no_proxy": str.isprintable,
    "ca": _is_path,
    "registry_mirrors": mirror,
    "insecure_registries": _is_registry,
    "dns": name_server,
}
