"""Proxies, registries and name servers: their valid forms, and their addresses as seen from the guest."""

import re
from collections.abc import Mapping
from pathlib import PurePath

GATEWAY = "10.0.2.2"  # this host's 127.0.0.1 in the hypervisors' own networks
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "[::1]")
PROXIES = ("http_proxy", "https_proxy")
VARIABLES = {  # of this host's environment; the first that is set counts
    "http_proxy": ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "https_proxy": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    "no_proxy": ("no_proxy", "NO_PROXY"),
}
HINTS = {
    "http_proxy": "use an address such as http://user:password@proxy:3128",
    "https_proxy": "use an address such as http://user:password@proxy:3128",
    "no_proxy": "use names and addresses separated by commas",
    "ca": "use absolute paths of files, such as /etc/ssl/company.pem",
    "registry_mirrors": "use addresses such as https://mirror.example.com",
    "insecure_registries": "use registries such as registry.example.com:5000 or 192.168.0.0/24",
    "dns": "use addresses of name servers, such as 192.168.0.1",
}
SCHEMES = ("http://", "https://", "socks5://", "socks5h://")  # those that Docker supports
SCHEME = re.compile(r"(?:[a-zA-Z][\w+.\-]*://)?", re.ASCII)
HOST = r"(\[[0-9a-fA-F:.]+\]|[\w.\-]+)(:\d{1,5})?"
SERVER = re.compile(f"{HOST}/?", re.ASCII)
MIRROR = re.compile(rf"(https?://){HOST}(/[\w.~/\-]*)?", re.ASCII)
REGISTRY = re.compile(rf"{HOST}|[0-9a-fA-F:.]+/\d{{1,3}}", re.ASCII)
REDACTED = "***"
LONE_PERCENT = re.compile("%(?![0-9a-fA-F]{2})")


def host_proxies(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return this host's proxy variables: for each setting the variable's name and its value."""
    variables = {}
    for key, names in VARIABLES.items():
        if name := next((name for name in names if environ.get(name)), ""):
            variables[key] = (name, environ[name])
    return variables


def proxy_refusal(key: str, value: object) -> str:
    """Return a hint for an invalid value of that setting, "" for a valid one; an empty value is valid."""
    check = _CHECKS.get(key)
    if check is None or value == "":
        return ""
    return "" if all(map(check, value if isinstance(value, tuple) else (str(value),))) else HINTS[key]


def guest_proxy(text: str) -> str:
    """Return a proxy's address for the guest, percent-encoded where necessary; "" for an invalid one.

    In the name and the password only the first colon and the last @ are delimiters. A % before two hexadecimal digits
    counts as encoded already, as it is in a variable with such an address.
    """
    scheme, user, password, server = _split(text)
    scheme = scheme.lower() or "http://"
    match = SERVER.fullmatch(server)
    if scheme not in SCHEMES or match is None or not text.isprintable() or _port(match[2]) is None:
        return ""
    host = GATEWAY if match[1].lower() in LOCAL_NAMES else match[1]
    credentials = ":".join(_quote(part) for part in (user, password) if part is not None)
    return f"{scheme}{credentials}{'@' if user is not None else ''}{host}{match[2] or ''}"


def guest_mirror(text: str) -> str:
    """Return a registry mirror's address for the guest; "" for an invalid one."""
    match = MIRROR.fullmatch(text)
    if match is None or _port(match[3]) is None:
        return ""
    host = GATEWAY if match[2].lower() in LOCAL_NAMES else match[2]
    return f"{match[1]}{host}{match[3] or ''}{match[4] or ''}"


def guest_name_server(text: str) -> str:
    """Return a name server's address for the guest; "" for an invalid one."""
    from ipaddress import ip_address

    try:
        address = str(ip_address(text))
    except ValueError:
        return ""
    return GATEWAY if address in LOCAL_NAMES else address


def is_unreachable(address: str) -> bool:
    """Return whether the guest cannot reach the address: of this host's own it reaches only GATEWAY."""
    host = address.partition("://")[2].rpartition("@")[2] or address
    return host.startswith("127.")


def without_password(text: str) -> str:
    """Return a proxy's address without its password, for output."""
    scheme, user, password, server = _split(text)
    return text if password is None else f"{scheme}{user}:{REDACTED}@{server}"


def password_of(text: str) -> str:
    """Return the password in a proxy's address as written, "" for none."""
    return _split(text)[2] or ""


def _split(text: str) -> tuple[str, str | None, str | None, str]:
    """Split a proxy's address into scheme, user, password and server; None for a missing part."""
    scheme = SCHEME.match(text)
    begin = scheme.end() if scheme else 0
    credentials, at, server = text[begin:].rpartition("@")
    user, colon, password = credentials.partition(":")
    return text[:begin], user if at else None, password if colon else None, server


def _quote(text: str) -> str:
    from urllib.parse import quote

    return quote(LONE_PERCENT.sub("%25", text), safe="%")


def _port(text: str | None) -> int | None:
    """Return the port number, 0 where there is none, None for an invalid one."""
    port = int(text[1:]) if text else 0
    return port if port <= 65535 else None


def _is_path(text: str) -> bool:
    return text.startswith("~") or PurePath(text).is_absolute()


def _is_registry(text: str) -> bool:
    return REGISTRY.fullmatch(text) is not None


_CHECKS = {
    "http_proxy": guest_proxy,
    "https_proxy": guest_proxy,
    "no_proxy": str.isprintable,
    "ca": _is_path,
    "registry_mirrors": guest_mirror,
    "insecure_registries": _is_registry,
    "dns": guest_name_server,
}
