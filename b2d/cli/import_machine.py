"""The verb import, as a command."""

import click

from b2d.cli.base import Command, app, command_line_settings, complete_values, print_line, print_result
from b2d.errors import ConfigError
from b2d.reporting.table import render_table


@click.command("import", cls=Command, example="b2d import boot2docker-vm")
@click.argument("original", required=False, metavar="[NAME|FILE]", shell_complete=complete_values)
def import_machine(original: str | None) -> None:
    """Take in a machine of boot2docker or docker-machine.

    It is a copy: the original stays as it is. NAME is one of VirtualBox's or docker-machine's, FILE a disk, a .vbox
    file, or docker-machine's folder of a machine. Alone it lists what there is.
    """
    from b2d import machine_names
    from b2d.app.import_machine import find_candidates, import_machine
    from b2d.importing.candidates import choose

    if original is None:
        _list()
        return
    found = choose(original, find_candidates(app()))
    name = str(command_line_settings(click.get_current_context()).get("vm") or found.name)
    if not machine_names.is_valid(name):
        raise ConfigError(f"{name!r} cannot be a machine's name here", hint="b2d import ... --vm NAME")
    it = app(vm=name)
    if found.had_aufs:
        version = found.volume.version if found.volume else ""
        it.reporter.warn(f"{name} was boot2docker {version}: what it kept on AUFS, no Docker of today can read")
    changed = import_machine(it, found)
    said = f"is made of {found.disk}; start it: b2d up --vm {name}" if changed else "is there already"
    print_line(f"{name} {said}")
    print_result({"name": name, "changed": changed, "original": found.disk})


def _list() -> None:
    from b2d.app.import_machine import find_candidates

    found = [one for one in find_candidates(app()) if one.is_boot2docker]
    rows = [
        (one.name, str(one.state), f"{one.memory_mib} MiB" if one.memory_mib else "", str(one.disk)) for one in found
    ]
    documents = [
        {
            "name": one.name,
            "state": one.state,
            "memory_mib": one.memory_mib,
            "cpus": one.cpus,
            "disk": one.disk,
            "version": one.volume.version if one.volume else "",
        }
        for one in found
    ]
    print_result(documents, render_table([("NAME", "STATE", "MEMORY", "DISK"), *rows]) if rows else "")
    if not rows:
        print_line("no machine of boot2docker or docker-machine was found; a disk can be given as a file")
