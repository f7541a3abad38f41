"""What is done around a machine that is made, has come up, or is gone: companion, docker's client, start at login."""

import os
from collections.abc import Sequence

from b2d.app.wiring import App
from b2d.docker import context
from b2d.host.autostart import items
from b2d.host.process_identity import is_alive
from b2d.host_agent import control
from b2d.host_agent.report import DOCKER, DOCKER_SOCKET, Refusal
from b2d.machine.exposure import Exposure, Severity
from b2d.machine_names import command_for
from b2d.machine_store.store import RunningFacts


def after_init(it: App) -> None:
    """After init: say, once for each machine, when b2d runs as root. What breaks out of the guest is root here then."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    spec = it.machine().spec()
    means = "its hypervisor is root too"
    if spec.folders:
        means += ", and containers write the folders that it shares as root of this host"
    it.reporter.note(f"{spec.name} was made by root: {means}; a user's own is safer: su - USER -c 'b2d up'")


def context_description(it: App) -> None:
    """After an init that is not part of an up: say what cannot be closed of the machine."""
    spec = it.machine().spec()
    _warn_exposures(it, it.exposures(spec, booted=False))


def after_up(it: App, facts: RunningFacts) -> tuple[Refusal, ...]:
    """After up, restart and reset: the agent serves, docker's client knows the machine, and what is open is said.

    Return what the agent was refused, which is said too.
    """
    name = it.settings.vm
    refused = control.wait_until_serving(it.store, name)
    context.update_context(it.home.machine(name), facts.docker, it.reporter)
    for one in refused or ():
        it.reporter.warn(f"{one.sentence(name)}; try: {command_for('restart', name)}")
    if refused is None and facts.process is not None and is_alive(facts.process):
        what = f"the agent of {name} does not serve yet: its socket and SSH may not answer"
        it.reporter.warn(f"{what}; try: {command_for('status', name)}")
    _warn_exposures(it, it.exposures(it.machine().spec(), booted=True))
    return refused or ()


def _warn_exposures(it: App, exposures: Sequence[Exposure]) -> None:
    for one in exposures:
        (it.reporter.warn if one.weight == Severity.SERIOUS else it.reporter.note)(one.line)


def greeting(name: str, facts: RunningFacts, refused: Sequence[Refusal]) -> str:
    """Where clients of a machine that is up find its Docker; no place that does not lead there."""
    services = {one.service for one in refused}
    by_tcp = f"tcp://{facts.address}:{facts.docker_port}"
    if facts.docker.host == by_tcp:
        return f"{name} is up" if DOCKER in services else f"{name} is up: {by_tcp}"
    hosts = [] if DOCKER_SOCKET in services else [facts.docker.host]
    if DOCKER not in services:
        hosts.append(f"for tools that need TCP: {by_tcp}" if hosts else by_tcp)
    return f"{name} is up: {'; '.join(hosts)}" if hosts else f"{name} is up"


def after_delete(it: App) -> None:
    """After delete."""
    paths = it.home.machine(it.settings.vm)
    context.remove_context(paths)
    items.stale_items(paths, it.home)
