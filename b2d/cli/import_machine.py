"""The command import."""

import click

from b2d.cli.base import Command, command_line_settings, complete_values, create_app, print_line, print_result
from b2d.errors import ConfigError
from b2d.reporting.table import render_table


@click.command("import", cls=Command, example="b2d import boot2docker-vm")
@click.argument("original", required=False, metavar="[NAME|FILE]", shell_complete=complete_values)
def import_machine(original: str | None) -> None:
    """Import a machine of boot2docker or docker-machine.

    The machine is copied: the original is not changed. NAME is a machine of VirtualBox or docker-machine, FILE a disk
    image, a .vbox file, or a machine's folder of docker-machine. Without an argument, list what can be imported.
    """
    from b2d import machine_names
    from b2d.app.import_machine import find_candidates, import_machine
    from b2d.importing.candidates import choose

    if original is None:
        _list_candidates()
        return
    candidate = choose(original, find_candidates(create_app()))
    name = str(command_line_settings(click.get_current_context()).get("vm") or candidate.name)
    if not machine_names.is_valid(name):
        raise ConfigError(f"{name!r} is not a valid machine name", hint="b2d import ... --vm NAME")
    app = create_app(vm=name)
    if candidate.had_aufs:
        version = candidate.volume.version if candidate.volume else ""
        app.reporter.warn(f"{name} was boot2docker {version}: current Docker engines cannot read its AUFS data")
    changed = import_machine(app, candidate)
    outcome = (
        f"is created from {candidate.disk}; start it: {machine_names.command_for('up', name)}"
        if changed
        else "exists already"
    )
    print_line(f"{name} {outcome}")
    print_result({"name": name, "changed": changed, "original": candidate.disk})


def _list_candidates() -> None:
    from b2d.app.import_machine import find_candidates

    candidates = [candidate for candidate in find_candidates(create_app()) if candidate.is_boot2docker]
    rows = [
        (
            candidate.name,
            str(candidate.state),
            f"{candidate.memory_mib} MiB" if candidate.memory_mib else "",
            str(candidate.disk),
        )
        for candidate in candidates
    ]
    documents = [
        {
            "name": candidate.name,
            "state": candidate.state,
            "memory_mib": candidate.memory_mib,
            "cpus": candidate.cpus,
            "disk": candidate.disk,
            "version": candidate.volume.version if candidate.volume else "",
        }
        for candidate in candidates
    ]
    print_result(documents, render_table([("NAME", "STATE", "MEMORY", "DISK"), *rows]) if rows else "")
    if not rows:
        print_line("there is no machine of boot2docker or docker-machine; a disk can be imported by its file name")
