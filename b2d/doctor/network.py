"""Checks of the network for downloads: proxies, certificate authorities and the Debian mirror."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from b2d.doctor.docker_environment import shellinit_line
from b2d.doctor.finding import Finding, Verdict, ok, warning
from b2d.errors import B2dError
from b2d.host.files import read_bounded
from b2d.network.http_client import AUTHORITIES, SCHEMES, display_url
from b2d.shell.variables import NO_PROXY, PROXIES

CERTIFICATE = b"-----BEGIN "  # "TRUSTED CERTIFICATE", too


def check_proxies(environment: Mapping[str, str], addresses: Mapping[str, str]) -> Finding:
    """Check the environment's proxies, as requests reads them; no machine may be reached through one.

    `addresses` maps the name of each machine to its address.
    """
    values = {name: environment[name] for name in PROXIES if environment.get(name)}
    if not values:
        return ok("proxies", "none")
    for name, value in values.items():
        if problem := _find_problem(value):
            return warning("proxies", f"{name} {problem}: {redact_proxy(value)}", f"export {name}=http://HOST:PORT")
    listed = ", ".join(f"{name}={redact_proxy(value)}" for name, value in values.items())
    bypassed = {item for name in NO_PROXY for item in environment.get(name, "").replace(",", " ").split()}
    missing = {name: address for name, address in addresses.items() if not bypassed & {address, "*"}}
    if missing:
        lacking = ", ".join(dict.fromkeys(missing.values()))
        message = f"{listed}; NO_PROXY lacks {lacking}, so curl would reach machines through the proxy"
        return warning("proxies", message, shellinit_line(next(iter(missing))))
    return ok("proxies", listed)


def redact_proxy(value: str) -> str:
    """Return a proxy's URL without its password; the value may lack http://."""
    return display_url(_url(value))


def _url(value: str) -> str:
    return value if "://" in value else f"http://{value}"


def _find_problem(value: str) -> str:
    try:
        parts = urlsplit(_url(value))
        if parts.hostname and parts.port != 0:
            return "" if parts.scheme in SCHEMES else "is not an HTTP proxy, the only kind that b2d supports"
    except ValueError:
        pass
    return "is not a valid address"


def check_authorities(environment: Mapping[str, str]) -> Finding:
    """Check the certificate authorities that downloads trust; the first variable that is set wins."""
    name = next((name for name in AUTHORITIES if environment.get(name)), "")
    if not name:
        return ok("authorities", "those of Python's requests")
    path = Path(environment[name])
    try:
        has_certificate = any(path.iterdir()) if path.is_dir() else CERTIFICATE in read_bounded(path)
    except OSError as error:
        return warning("authorities", f"{path}, which {name} names: {error.strerror}", f"unset {name}")
    if not has_certificate:
        return warning("authorities", f"there is no certificate in {path}, which {name} names", f"unset {name}")
    return ok("authorities", f"{name}={path}")


def check_mirror(query: Callable[[], str]) -> Finding:
    """Check the Debian mirror from which images are built."""
    try:
        url = query()
    except B2dError as error:
        return warning("mirror", error.message, error.hint)
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        return Finding(
            "mirror", Verdict.BAD, f"{display_url(url)!r} is not a valid address", "b2d config set mirror=https://…"
        )
    return ok("mirror", display_url(url))
