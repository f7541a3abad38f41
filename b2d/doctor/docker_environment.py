"""Check of the calling shell's docker variables."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from b2d.doctor.finding import Finding, ok, warning
from b2d.machine_names import DEFAULT_NAME, command_for
from b2d.network.http_client import display_url


def check_docker_variables(
    environment: Mapping[str, str], hosts: Mapping[str, str], running: Collection[str]
) -> Finding:
    """Check that the variables select a running machine of this home.

    `hosts` maps the DOCKER_HOST of each machine to its name.
    """
    name = "docker variables"
    host = environment.get("DOCKER_HOST", "")
    shellinit = shellinit_line(hosts.get(host, DEFAULT_NAME))
    for problem, fix in _find_problems(environment, shellinit):
        return warning(name, problem, fix)
    if not host:
        return ok(name, "not set: this shell uses no machine")
    if host not in hosts:
        fix = f"{shellinit}, or: unset DOCKER_HOST"
        return warning(name, f"DOCKER_HOST={display_url(host)} is no machine of this home", fix)
    machine = hosts[host]
    if machine not in running:
        return warning(name, f"DOCKER_HOST is {machine}, which is not running", command_for("up", machine))
    return ok(name, f"DOCKER_HOST is {machine}")


def shellinit_line(machine: str) -> str:
    """Return the line that sets up a shell for a machine."""
    return f'eval "$({command_for("shellinit", machine)})"'


def _find_problems(environment: Mapping[str, str], shellinit: str) -> Iterator[tuple[str, str]]:
    context = environment.get("DOCKER_CONTEXT", "")
    if context:  # docker prefers it to DOCKER_HOST, "default" too
        yield f"DOCKER_CONTEXT={context} overrides DOCKER_HOST: docker uses that context", "unset DOCKER_CONTEXT"
    certs = environment.get("DOCKER_CERT_PATH", "")
    if certs and not (Path(certs) / "cert.pem").is_file():
        yield f"there is no cert.pem in DOCKER_CERT_PATH={certs}", shellinit
    if version := environment.get("DOCKER_API_VERSION", ""):
        yield f"DOCKER_API_VERSION={version}: docker uses no other version of the API", "unset DOCKER_API_VERSION"
