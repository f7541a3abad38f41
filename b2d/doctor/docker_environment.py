"""Where docker's variables lead in the shell that asks."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from b2d.doctor.finding import Finding, ok, warning
from b2d.machine_names import command_for
from b2d.network.http_client import display_url

SHELLINIT = 'eval "$(b2d shellinit)"'


def check_docker_variables(
    environment: Mapping[str, str], hosts: Mapping[str, str], running: Collection[str]
) -> Finding:
    """Whether they lead to a machine of this home that runs; `hosts`: the DOCKER_HOST of each machine, and its name."""
    name = "docker variables"
    for fault, fix in _faults(environment):
        return warning(name, fault, fix)
    host = environment.get("DOCKER_HOST", "")
    if not host:
        return ok(name, "none: this shell uses no machine")
    if host not in hosts:
        fix = f"{SHELLINIT}, or: unset DOCKER_HOST"
        return warning(name, f"DOCKER_HOST={display_url(host)} is no machine of this home", fix)
    machine = hosts[host]
    if machine not in running:
        return warning(name, f"DOCKER_HOST is {machine}, which does not run", command_for("up", machine))
    return ok(name, f"DOCKER_HOST is {machine}")


def _faults(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    context = environment.get("DOCKER_CONTEXT", "")
    if context:  # docker takes it before DOCKER_HOST, "default" too
        yield f"DOCKER_CONTEXT={context} counts more than DOCKER_HOST: docker goes there", "unset DOCKER_CONTEXT"
    certs = environment.get("DOCKER_CERT_PATH", "")
    if certs and not (Path(certs) / "cert.pem").is_file():
        yield f"there is no cert.pem in DOCKER_CERT_PATH={certs}", SHELLINIT
    if version := environment.get("DOCKER_API_VERSION", ""):
        yield f"DOCKER_API_VERSION={version}: docker speaks no other", "unset DOCKER_API_VERSION"
