"""What is known of a machine: all of it as one document, the ports that its containers publish, and its logs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from b2d.app.wiring import App
from b2d.drivers.base import ForwardsPorts, GrowsDisk, ReportsEffectiveSpec
from b2d.errors import B2dError, ConfigError, InvalidStateError
from b2d.formats import json_text
from b2d.guest import network_config
from b2d.host import unix_sockets
from b2d.models import ON_STATES, MachineState

if TYPE_CHECKING:
    from b2d.docker.published_ports import PublishedPort
    from b2d.models import Forward

ANSWER_S = 20.0
LOGS = ("console", "docker", "hypervisor", "b2d")


def describe_machine(it: App, name: str) -> dict[str, object]:
    """What it is to be, and below `has`, `state` and `running`, what it is. Raises MachineNotFoundError."""
    spec = it.machine(name).spec()
    driver = it.driver(spec)
    facts = it.store.read_env(spec.name)
    has: dict[str, object] = {"disk_mib": driver.disk_mib()} if isinstance(driver, GrowsDisk) else {}
    if isinstance(driver, ReportsEffectiveSpec) and (measured := driver.effective_spec()) is not None:
        has |= {"memory_mib": measured.memory_mib, "cpus": measured.cpus}
    running = asdict(facts) if facts is not None else None
    state = driver.state()
    if state in ON_STATES | {MachineState.SAVED}:
        from b2d.machine.boot_preparation import with_guest_network

        told = with_guest_network(it.home.machine(name)).get(network_config.RECORD)
        has["network"] = _parsed(told) if told else None
    now = {"state": state, "running": running, "socket": socket(it, name), "has": has}
    return {**asdict(spec), "network": network_config.from_settings(it.settings, spec).shown(), **now}


def _parsed(told: bytes) -> object:
    """None for what was damaged since."""
    try:
        return json_text.parse(told)
    except ValueError:
        return None


def socket(it: App, name: str) -> dict[str, object]:
    """The machine's Unix socket: `host` is what DOCKER_HOST may be, "" where the path is too long for that."""
    path = it.home.machine(name).docker_socket
    host = f"unix://{path}" if unix_sockets.fits(path) else ""
    return {"path": str(path), "host": host, "answers": unix_sockets.answers(path)}


def ports(it: App) -> "list[PublishedPort]":
    """What its containers publish, and where that is on this host. Raises InvalidStateError when it does not run."""
    from b2d.docker import published_ports
    from b2d.docker.client import DockerUnavailableError
    from b2d.network import port_allocation

    machine = it.machine()
    facts, spec = machine.facts(), machine.spec()
    driver = it.driver(spec)
    if not isinstance(driver, ForwardsPorts):
        raise B2dError(f"b2d leads no ports out of machines of {spec.driver} yet", hint="b2d ip")
    try:
        found = published_ports.publications(facts.engine(machine.paths.certs).containers(ANSWER_S))
    except DockerUnavailableError as error:
        raise InvalidStateError(
            f"Docker in {spec.name} does not answer", hint="b2d logs --docker", details=str(error)
        ) from error

    def reserved(one: "Forward") -> str:
        return "" if it.settings.privileged_ports else port_allocation.privileged_port_obstacle(one.address, one.port)

    return published_ports.list_ports(
        found,
        facts.address,
        set(driver.forwarded()),
        lambda one: (
            driver.forward_obstacle(one)
            or reserved(one)
            or port_allocation.port_obstacle(one.address, one.port, one.protocol)
        ),
    )


def log_file(it: App, which: str) -> Path:
    """Where a log of LOGS lies on this host; that of docker lies in the guest."""
    machine = it.machine()
    if which == "b2d":
        return it.home.log
    spec = machine.spec()
    return machine.paths.hypervisor_log(spec.driver) if which == "hypervisor" else machine.paths.serial_log


def read_log(it: App, which: str, lines: int | None) -> bytes:
    """The end of a log, or all of it. Raises ConfigError for one that is not of LOGS."""
    from contextlib import closing

    from b2d.diagnostics import logs

    if which not in LOGS:
        raise ConfigError(f"there is no log {which!r}", hint=f"one of {', '.join(LOGS)}")
    if which != "docker":
        return logs.read(log_file(it, which), lines)
    with closing(it.machine().guest()) as guest:
        return logs.docker_log_command(guest, lines)
