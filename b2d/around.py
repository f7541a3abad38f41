"""What is done around a machine that has come up, or is gone: companion, docker's client, start at login."""

from b2d import autostart, companion, docker_context
from b2d.app import App
from b2d.store import RunningFacts


def came_up(it: App, facts: RunningFacts) -> None:
    """After up, restart and reset."""
    companion.ready(it.store, it.settings.vm)
    docker_context.known(it.home.machine(it.settings.vm), facts.docker, it.reporter)


def gone(it: App) -> None:
    """After delete."""
    paths = it.home.machine(it.settings.vm)
    docker_context.forgotten(paths)
    autostart.forgotten(paths, it.home)
