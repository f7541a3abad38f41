"""What a guest is told of the networks around it: the settings, as files on its seed disk."""

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

GUEST = ("localhost", "127.0.0.1", "::1", "10.0.2.15", endpoints.GATEWAY)  # what no proxy is asked for
FILES = "told.json"  # the same once more, for `b2d info`


@dataclass(frozen=True, slots=True)
class Network:
    """All of it, as the guest is to have it."""

    http_proxy: str
    https_proxy: str
    no_proxy: str
    ca: tuple[str, ...]
    registry_mirrors: tuple[str, ...]
    insecure_registries: tuple[str, ...]
    dns: tuple[str, ...]

    def shown(self) -> dict[str, object]:
        """For eyes: without passwords."""
        hidden = {key: endpoints.without_password(getattr(self, key)) for key in endpoints.PROXIES}
        return {**asdict(self), **hidden}


def from_settings(settings: Settings, spec: MachineSpec) -> Network:
    """What the settings say to that machine's guest."""
    http, https = (
        endpoints.guest_proxy(getattr(settings, key)) if settings.proxies else "" for key in endpoints.PROXIES
    )
    theirs = [part.strip() for part in settings.no_proxy.split(",")]
    without = [*filter(None, theirs), *GUEST, spec.address]
    return Network(
        http_proxy=http,
        https_proxy=https,
        no_proxy=",".join(dict.fromkeys(without)) if http or https else "",
        ca=tuple(os.path.expanduser(path) for path in settings.ca),  # noqa: PTH111  pathlib's raises for a ~ of nobody
        registry_mirrors=tuple(map(endpoints.guest_mirror, settings.registry_mirrors)),
        insecure_registries=settings.insecure_registries,
        dns=tuple(map(endpoints.guest_name_server, settings.dns)),
    )


def files(network: Network) -> dict[str, bytes]:
    """By name; none where nothing is to be told. Raises ConfigError for an authority that cannot be read."""
    from b2d.guest import seed

    found = {
        "proxies": _exports(network),
        "authorities": b"".join(tls_certificates.authorities(Path(path)) for path in network.ca),
        "registries": _flags(network),
        "dns": " ".join(network.dns).encode(),
    }
    if any(endpoints.GATEWAY in server for server in _servers(network)):
        found[seed.LOOPBACK] = b"yes\n"
    found = {name: content for name, content in found.items() if content}
    return found | {FILES: json.dumps(network.shown()).encode()} if found else {}


def check(settings: Settings) -> None:
    """Raise ConfigError for an authority that cannot be read."""
    for path in settings.ca:
        tls_certificates.authorities(Path(os.path.expanduser(path)))  # noqa: PTH111  as above


def remarks(settings: Settings, origins: Mapping[str, str], spec: MachineSpec) -> Iterator[str]:
    """What the guest is told in vain, one line each; `origins` as config.py has them."""
    if settings.proxies:
        for key in endpoints.PROXIES:
            if (text := getattr(settings, key)) and not endpoints.guest_proxy(
                text
            ):  # this host's: others are refused before
                yield f"{origins[key]}: the guest has no use for this proxy: {endpoints.without_password(text)}"
    network = from_settings(settings, spec)
    for server in dict.fromkeys(_servers(network)):
        if endpoints.is_unreachable(server):
            shown = endpoints.without_password(server)
            yield f"the guest cannot reach {shown}: of this host's own addresses it has 127.0.0.1"
    if spec.driver == "virtualbox" and endpoints.GATEWAY in network.dns:  # seen on 7.2: port 53 alone
        yield "dns: a guest of VirtualBox's reaches no name server on 127.0.0.1; without dns it asks this host's own"
    asked = [key for key in (*endpoints.PROXIES, "registry_mirrors", "dns") if getattr(settings, key)]
    said = [key for key in asked if origins[key] not in endpoints.VARIABLES.get(key, ())]
    if not settings.host_loopback and any(endpoints.GATEWAY in server for server in _servers(network)):
        yield "host_loopback = no: the guest reaches nothing that listens on this host's loopback, where that leads"
    if spec.restrict and spec.driver == "qemu" and said:
        yield f"{spec.name} is restricted, and reaches nothing: {', '.join(said)} cannot help there"


def _servers(network: Network) -> tuple[str, ...]:
    """All that the guest is sent to."""
    return (network.http_proxy, network.https_proxy, *network.registry_mirrors, *network.dns)


def _exports(network: Network) -> bytes:
    """For a shell. In small letters alone: what a person's own profile exports in capitals, dockerd asks first."""
    said = {key: getattr(network, key) for key in (*endpoints.PROXIES, "no_proxy")}
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in said.items() if value).encode()


def _flags(network: Network) -> bytes:
    """A line for each of dockerd's, with the word that daemon.json has for it: it takes no setting from both."""
    mirrors = [f"registry-mirrors --registry-mirror={one}\n" for one in network.registry_mirrors]
    insecure = [f"insecure-registries --insecure-registry={one}\n" for one in network.insecure_registries]
    return "".join([*mirrors, *insecure]).encode()
