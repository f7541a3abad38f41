"""The variables that shellinit changes: docker's, the lists of hosts without a proxy, and its own record.

A change is a name with its value, "" for a variable to remove: docker and similar programs treat empty as unset.
"""

from b2d.shell.detect import PLAIN

TYPE_CHECKING = False  # as in the module typing, which is slow to import
if TYPE_CHECKING:
    from collections.abc import Mapping

DOCKER = ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
NO_PROXY = ("NO_PROXY", "no_proxy")
# The record that `--unset` uses: the DOCKER_HOST that shellinit set, the previous values of docker's three variables,
# and the address that it added to NO_PROXY.
BEFORE = "B2D_BEFORE"
NOTHING = ("", "", "", "", "")


def set_changes(docker: "dict[str, str]", environ: "Mapping[str, str]") -> "dict[str, str]":
    """Return the changes that select the machine of `docker`; when repeated, the first previous values are kept."""
    host, *before, added = _read_record(environ)
    if not host or environ.get("DOCKER_HOST", "") not in ("", host):  # not set by shellinit, or changed since
        before = [environ.get(name, "") for name in DOCKER]
    scheme, _, authority = docker["DOCKER_HOST"].partition("://")
    address = authority.rpartition(":")[0] if scheme == "tcp" else ""
    lists, added = _bypass_proxy(address, added, environ)
    record = ",".join(_encode(value) for value in (docker["DOCKER_HOST"], *before, added))
    return {name: docker.get(name, "") for name in DOCKER} | lists | {BEFORE: record}


def unset_changes(environ: "Mapping[str, str]") -> "dict[str, str]":
    """Return the changes that undo shellinit; none when it was not evaluated, or is undone already."""
    host, *before, added = _read_record(environ)
    if not host:
        return {}
    changes = dict(zip(DOCKER, before, strict=True))
    for name in NO_PROXY:
        items = _split_list(environ.get(name, ""))
        if added in items:
            changes[name] = ",".join(item for item in items if item != added)
    return changes | {BEFORE: ""}


def _bypass_proxy(address: str, added: str, environ: "Mapping[str, str]") -> "tuple[dict[str, str], str]":
    """Return changes that put `address` in the no-proxy lists in place of `added`, and the address that b2d added."""
    if not address or not any(environ.get(name) for name in PROXIES):  # a Unix socket never goes through a proxy
        return {}, added
    changes = {}
    ours = address if added == address else ""
    # a variable that is not set yet would hide the one that is
    for name in [name for name in NO_PROXY if environ.get(name)] or NO_PROXY[:1]:
        before_items = _split_list(environ.get(name, ""))
        items = [item for item in before_items if item in (address, "*") or item != added]
        if address not in items and items != ["*"]:  # many programs ignore a star that is not alone
            items.append(address)
            ours = address
        if items != before_items:
            changes[name] = ",".join(items)
    return changes, ours


def _split_list(listed: str) -> "list[str]":
    return listed.replace(",", " ").split()


def _read_record(environ: "Mapping[str, str]") -> "tuple[str, ...]":
    text = environ.get(BEFORE, "").partition(";")[0]  # the bare form of shellinit may append an "unset"
    try:
        values = tuple(_decode(value) for value in text.split(","))
    except ValueError:
        return NOTHING
    return values if len(values) == len(NOTHING) else NOTHING


def _encode(value: str) -> str:
    """Encode a value without commas and without characters that any shell would change."""
    return "".join(
        sign if sign in PLAIN and sign not in ",%" else "".join(f"%{byte:02X}" for byte in _bytes(sign))
        for sign in value
    )


def _decode(text: str) -> str:
    first, *others = text.split("%")
    content = _bytes(first) + b"".join(bytes.fromhex(part[:2]) + _bytes(part[2:]) for part in others)
    return content.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
