"""Describe a machine: configuration and state as one document, the ports that its containers publish, and its logs."""

from pathlib import Path
from typing import TYPE_CHECKING

from b2d.app.wiring import App
from b2d.drivers import hypervisors
from b2d.errors import ConfigError, InvalidStateError
from b2d.formats import json_text
from b2d.guest import network_config
from b2d.host import unix_sockets
from b2d.machine_names import command_for
from b2d.models import ON_STATES, MachineState

if TYPE_CHECKING:
    from b2d.docker.published_ports import PublishedPort
    from b2d.models import Forward

ANSWER_S = 20.0
LOGS = ("console", "docker", "hypervisor", "b2d")


def describe_machine(app: App, name: str) -> dict[str, object]:
    """Return the configuration and, as `has`, `state` and `running`, the actual state.

    Raises MachineNotFoundError.
    """
    spec = app.machine(name).spec()
    driver = app.driver(spec)
    facts = app.store.read_env(spec.name)
    has: dict[str, object] = {"disk_mib": driver.disk_mib()}
    if (measured := driver.effective_spec()) is not None:
        has |= {"memory_mib": measured.memory_mib, "cpus": measured.cpus}
    running = json_text.document(facts) if facts is not None else None
    state = driver.state()
    if state in ON_STATES | {MachineState.SAVED}:
        from b2d.machine.boot_preparation import last_network

        content = last_network(app.home.machine(name)).get(network_config.RECORD)
        has["network"] = _parsed(content) if content else None
    now = {"state": state, "running": running, "socket": socket(app, name), "has": has}
    return {**spec._asdict(), "network": network_config.from_settings(app.settings, spec).shown(), **now}


def _parsed(content: bytes) -> object:
    """Return the document, or None for a damaged one."""
    try:
        return json_text.parse(content)
    except ValueError:
        return None


def socket(app: App, name: str) -> dict[str, object]:
    """Describe the machine's Unix socket: `host` is its DOCKER_HOST, "" where the path is too long for one."""
    path = app.home.machine(name).docker_socket
    host = f"unix://{path}" if unix_sockets.fits(path) else ""
    return {"path": str(path), "host": host, "answers": unix_sockets.answers(path)}


def ports(app: App) -> "list[PublishedPort]":
    """Return the ports that containers publish, and their addresses on this host. Raises InvalidStateError."""
    from b2d.docker import published_ports
    from b2d.docker.client import DockerUnavailableError
    from b2d.network import port_allocation

    machine = app.machine()
    facts, spec = machine.facts(), machine.spec()
    driver = app.driver(spec)
    try:
        publications = published_ports.parse_publications(facts.engine(machine.paths.certs).containers(ANSWER_S))
    except DockerUnavailableError as error:
        raise InvalidStateError(
            f"Docker in {spec.name} does not answer", hint=command_for("logs --docker", spec.name), details=str(error)
        ) from error

    def reserved(forward: "Forward") -> str:
        return (
            ""
            if app.settings.privileged_ports
            else port_allocation.privileged_port_obstacle(forward.address, forward.port)
        )

    return published_ports.list_ports(
        publications,
        facts.address,
        set(driver.forwards()),
        lambda forward: (
            driver.forward_obstacle(forward)
            or reserved(forward)
            or port_allocation.port_obstacle(forward.address, forward.port, forward.protocol)
        ),
    )


def log_file(app: App, which: str) -> Path:
    """Return the path of a log of LOGS on this host; docker's is in the guest."""
    machine = app.machine()
    if which == "b2d":
        return app.home.log
    spec = machine.spec()
    return hypervisors.get(spec.driver).log(machine.paths) if which == "hypervisor" else machine.paths.serial_log


def read_log(app: App, which: str, lines: int | None) -> bytes:
    """Return the last lines of a log, or all of it. Raises ConfigError for one that is not in LOGS."""
    from contextlib import closing

    from b2d.diagnostics import logs

    if which not in LOGS:
        raise ConfigError(f"there is no log {which!r}", hint=f"one of {', '.join(LOGS)}")
    if which != "docker":
        return logs.read(log_file(app, which), lines)
    with closing(app.machine().guest()) as guest:
        return logs.read_docker_log(guest, lines)
