"""What lies between this host and what it downloads from: proxies, certificates of authorities, the mirror."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.errors import B2dError
from b2d.host.files import read_bounded
from b2d.network.http_client import AUTHORITIES, SCHEMES, display_url
from b2d.shell.variables import NO_PROXY, PROXIES

CERTIFICATE = b"-----BEGIN "  # "TRUSTED CERTIFICATE", too


def proxies(environment: Mapping[str, str], addresses: Sequence[str]) -> Finding:
    """The proxies of the environment, as requests takes them; machines at `addresses` are reached without."""
    said = {name: environment[name] for name in PROXIES if environment.get(name)}
    if not said:
        return ok("proxies", "none")
    for name, value in said.items():
        if fault := _fault(value):
            return warning("proxies", f"{name} {fault}: {proxy_shown(value)}", f"export {name}=http://HOST:PORT")
    named = ", ".join(f"{name}={proxy_shown(value)}" for name, value in said.items())
    passed = {item for name in NO_PROXY for item in environment.get(name, "").replace(",", " ").split()}
    missing = [address for address in dict.fromkeys(addresses) if not passed & {address, "*"}]
    if missing:
        message = f"{named}; NO_PROXY lacks {', '.join(missing)}, so that curl asks the proxy for a machine"
        return warning("proxies", message, 'eval "$(b2d shellinit)"')
    return ok("proxies", named)


def proxy_shown(value: str) -> str:
    """It without a password; a proxy may be written without http://."""
    return display_url(_url(value))


def _url(value: str) -> str:
    return value if "://" in value else f"http://{value}"


def _fault(value: str) -> str:
    try:
        parts = urlsplit(_url(value))
        if parts.hostname and parts.port != 0:
            return "" if parts.scheme in SCHEMES else "is not for HTTP, which is all that b2d speaks with a proxy"
    except ValueError:
        pass
    return "is no address"


def authorities(environment: Mapping[str, str]) -> Finding:
    """The certificates by which downloads are trusted; the first variable that names some counts."""
    name = next((name for name in AUTHORITIES if environment.get(name)), "")
    if not name:
        return ok("authorities", "those that come with Python's requests")
    path = Path(environment[name])
    try:
        sound = any(path.iterdir()) if path.is_dir() else CERTIFICATE in read_bounded(path)
    except OSError as error:
        return warning("authorities", f"{path}, which {name} names: {error.strerror}", f"unset {name}")
    if not sound:
        return warning("authorities", f"there is no certificate in {path}, which {name} names", f"unset {name}")
    return ok("authorities", f"{name}={path}")


def mirror(ask: Callable[[], str]) -> Finding:
    """The Debian mirror that images are made from."""
    try:
        found = ask()
    except B2dError as error:
        return warning("mirror", error.message, error.hint)
    parts = urlsplit(found)
    if parts.scheme not in SCHEMES or not parts.hostname:
        return Finding(
            "mirror", Verdict.BAD, f"{display_url(found)!r} is no address", "b2d config set mirror=https://…"
        )
    return ok("mirror", display_url(found))
