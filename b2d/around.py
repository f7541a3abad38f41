"""What is done around a machine that is made, has come up, or is gone: companion, docker's client, start at login."""

import os

from b2d import autostart, companion, docker_context
from b2d.app import App
from b2d.store import RunningFacts


def made(it: App) -> None:
    """After init: say, once for each machine, when b2d runs as root. What breaks out of the guest is root here then."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    spec = it.machine().spec()
    means = "its hypervisor is root too"
    if spec.folders:
        means += ", and containers write the folders that it shares as root of this host"
    it.reporter.note(f"{spec.name} was made by root: {means}; a user's own is safer: su - USER -c 'b2d up'")


def came_up(it: App, facts: RunningFacts) -> None:
    """After up, restart and reset."""
    companion.ready(it.store, it.settings.vm)
    docker_context.known(it.home.machine(it.settings.vm), facts.docker, it.reporter)


def gone(it: App) -> None:
    """After delete."""
    paths = it.home.machine(it.settings.vm)
    docker_context.forgotten(paths)
    autostart.forgotten(paths, it.home)
