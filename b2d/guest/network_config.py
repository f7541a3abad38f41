"""The network settings for a guest, as files on its seed disk."""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from b2d.config.settings import Settings
from b2d.guest import tls_certificates
from b2d.models import MachineSpec
from b2d.network import endpoints

GUEST = ("localhost", "127.0.0.1", "::1", "10.0.2.15", endpoints.GATEWAY)  # never through a proxy
DAEMON_FILE = "daemon.json"
RECORD = "told.json"  # the same settings, for `b2d info`


@dataclass(frozen=True, slots=True)
class Network:
    """The network settings as the guest gets them."""

    http_proxy: str
    https_proxy: str
    no_proxy: str
    ca: tuple[str, ...]
    registry_mirrors: tuple[str, ...]
    insecure_registries: tuple[str, ...]
    dns: tuple[str, ...]

    def shown(self) -> dict[str, object]:
        """Return the settings for output, without passwords."""
        hidden = {key: endpoints.without_password(getattr(self, key)) for key in endpoints.PROXIES}
        return {**asdict(self), **hidden}


def from_settings(settings: Settings, spec: MachineSpec) -> Network:
    """Return the network settings of a machine's guest."""
    http, https = (
        endpoints.guest_proxy(getattr(settings, key)) if settings.proxies else "" for key in endpoints.PROXIES
    )
    exceptions = [part.strip() for part in settings.no_proxy.split(",")]
    without = [*filter(None, exceptions), *GUEST, spec.address]
    return Network(
        http_proxy=http,
        https_proxy=https,
        no_proxy=",".join(dict.fromkeys(without)) if http or https else "",
        ca=tuple(os.path.expanduser(path) for path in settings.ca),  # noqa: PTH111  pathlib's raises for an unknown ~user
        registry_mirrors=tuple(map(endpoints.guest_mirror, settings.registry_mirrors)),
        insecure_registries=settings.insecure_registries,
        dns=tuple(map(endpoints.guest_name_server, settings.dns)),
    )


def files(network: Network) -> dict[str, bytes]:
    """Return the files by name, none without settings. Raises ConfigError for an unreadable authority."""
    from b2d.guest import seed

    contents = {
        "proxies": _exports(network),
        "authorities": b"".join(tls_certificates.authorities(Path(path)) for path in network.ca),
        "registries": _flags(network),
        "dns": " ".join(network.dns).encode(),
        DAEMON_FILE: _daemon_file(network),
    }
    if any(endpoints.GATEWAY in server for server in _servers(network)):
        contents[seed.LOOPBACK] = b"yes\n"
    contents = {name: content for name, content in contents.items() if content}
    return contents | {RECORD: json.dumps(network.shown()).encode()} if contents else {}


def check(settings: Settings) -> None:
    """Raise ConfigError for an authority that cannot be read."""
    for path in settings.ca:
        tls_certificates.authorities(Path(os.path.expanduser(path)))  # noqa: PTH111  as above


def remarks(
    settings: Settings,
    origins: Mapping[str, str],
    spec: MachineSpec,
    *,
    reaches_loopback_dns: bool,
    can_restrict: bool,
) -> Iterator[str]:
    """Yield a line for each setting without effect in the guest; `origins` are those of the settings.

    The last two are what the hypervisor's network can do (`drivers.hypervisors`).
    """
    if settings.proxies:
        for key in endpoints.PROXIES:
            if (text := getattr(settings, key)) and not endpoints.guest_proxy(
                text
            ):  # of this host's variables: other values are refused earlier
                yield f"{origins[key]}: the guest cannot use this proxy: {endpoints.without_password(text)}"
    network = from_settings(settings, spec)
    for server in dict.fromkeys(_servers(network)):
        if endpoints.is_unreachable(server):
            shown = endpoints.without_password(server)
            yield f"the guest cannot reach {shown}: of this host's own addresses it reaches only 127.0.0.1"
    if not reaches_loopback_dns and endpoints.GATEWAY in network.dns:
        yield "dns: a VirtualBox guest cannot reach a name server on 127.0.0.1; without dns it uses this host's"
    active = [key for key in (*endpoints.PROXIES, "registry_mirrors", "dns") if getattr(settings, key)]
    ineffective = [key for key in active if origins[key] not in endpoints.VARIABLES.get(key, ())]
    if not settings.host_loopback and any(endpoints.GATEWAY in server for server in _servers(network)):
        yield "host_loopback = no: the guest cannot reach servers on this host's loopback, as these settings need"
    if spec.restrict and can_restrict and ineffective:
        keys = ", ".join(ineffective)
        yield f"{spec.name} is restricted and has no network, so these settings have no effect: {keys}"


def _servers(network: Network) -> tuple[str, ...]:
    """Return all servers in the settings."""
    return (network.http_proxy, network.https_proxy, *network.registry_mirrors, *network.dns)


def _exports(network: Network) -> bytes:
    """Return the proxies as shell variables in lower case: dockerd prefers a profile's own in upper case."""
    values = {key: getattr(network, key) for key in (*endpoints.PROXIES, "no_proxy")}
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in values.items() if value).encode()


def _daemon_file(network: Network) -> bytes:
    """Return the proxies and registries as daemon.json, for a dockerd that was started before they were known."""
    keys = {"http-proxy": network.http_proxy, "https-proxy": network.https_proxy, "no-proxy": network.no_proxy}
    settings = {
        "proxies": {key: value for key, value in keys.items() if value},
        "registry-mirrors": network.registry_mirrors,
        "insecure-registries": network.insecure_registries,
    }
    content = {key: value for key, value in settings.items() if value}
    return json.dumps(content).encode() + b"\n" if content else b""


def _flags(network: Network) -> bytes:
    """Return a line for each flag of dockerd, after its key in daemon.json.

    dockerd accepts no setting from both.
    """
    flags = [f"registry-mirrors --registry-mirror={mirror}\n" for mirror in network.registry_mirrors]
    flags += [f"insecure-registries --insecure-registry={registry}\n" for registry in network.insecure_registries]
    return "".join(flags).encode()
