"""Which variables shellinit changes: docker's, the list of what is reached without a proxy, and its own memory.

A change is a name with its value, "" for a variable that must go: docker and its like take an empty one for none.
"""

from b2d.shell.detect import PLAIN

TYPE_CHECKING = False  # as the module typing has it, which is slow to load
if TYPE_CHECKING:
    from collections.abc import Mapping

DOCKER = ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
NO_PROXY = ("NO_PROXY", "no_proxy")
# The memory, which `--unset` goes by: the DOCKER_HOST that shellinit set, what the three of docker were before,
# and the address that it added to NO_PROXY.
BEFORE = "B2D_BEFORE"
NOTHING = ("", "", "", "", "")


def set_changes(docker: "dict[str, str]", environ: "Mapping[str, str]") -> "dict[str, str]":
    """What points a shell at the machine of `docker`. Twice, or for another machine, what was before stays known."""
    host, *before, added = _remembered(environ)
    if not host or environ.get("DOCKER_HOST", "") not in ("", host):  # somebody else's, also after an earlier shellinit
        before = [environ.get(name, "") for name in DOCKER]
    scheme, _, place = docker["DOCKER_HOST"].partition("://")
    address = place.rpartition(":")[0] if scheme == "tcp" else ""
    lists, added = _without_proxy(address, added, environ)
    memory = ",".join(_packed(value) for value in (docker["DOCKER_HOST"], *before, added))
    return {name: docker.get(name, "") for name in DOCKER} | lists | {BEFORE: memory}


def unset_changes(environ: "Mapping[str, str]") -> "dict[str, str]":
    """What makes a shell what it was before shellinit; nothing where none was evaluated, or it is undone."""
    host, *before, added = _remembered(environ)
    if not host:
        return {}
    changes = dict(zip(DOCKER, before, strict=True))
    for name in NO_PROXY:
        items = _items(environ.get(name, ""))
        if added in items:
            changes[name] = ",".join(item for item in items if item != added)
    return changes | {BEFORE: ""}


def _without_proxy(address: str, added: str, environ: "Mapping[str, str]") -> "tuple[dict[str, str], str]":
    """The lists with `address` in them, once, in place of the one that was `added` before; and what is added now."""
    if not address or not any(environ.get(name) for name in PROXIES):  # a Unix socket is reached without one anyway
        return {}, added
    changes = {}
    ours = address if added == address else ""
    for name in [name for name in NO_PROXY if environ.get(name)] or NO_PROXY[:1]:  # a new one would hide the other
        had = _items(environ.get(name, ""))
        items = [item for item in had if item in (address, "*") or item != added]
        if address not in items and items != ["*"]:  # beside others the star means nothing to many programs
            items.append(address)
            ours = address
        if items != had:
            changes[name] = ",".join(items)
    return changes, ours


def _items(listed: str) -> "list[str]":
    return listed.replace(",", " ").split()


def _remembered(environ: "Mapping[str, str]") -> "tuple[str, ...]":
    text = environ.get(BEFORE, "").partition(";")[0]  # the bare form may leave an "unset" behind it
    try:
        found = tuple(_unpacked(value) for value in text.split(","))
    except ValueError:
        return NOTHING
    return found if len(found) == len(NOTHING) else NOTHING


def _packed(value: str) -> str:
    """The value with nothing in it that any shell would change, nor a comma."""
    return "".join(
        sign if sign in PLAIN and sign not in ",%" else "".join(f"%{byte:02X}" for byte in _bytes(sign))
        for sign in value
    )


def _unpacked(text: str) -> str:
    first, *others = text.split("%")
    content = _bytes(first) + b"".join(bytes.fromhex(part[:2]) + _bytes(part[2:]) for part in others)
    return content.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
