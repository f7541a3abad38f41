"""The verb import, as a command."""

import click

from b2d.cli.base import Command, answer, app, given, say, values
from b2d.errors import ConfigError
from b2d.reporting.table import table


@click.command("import", cls=Command, example="b2d import boot2docker-vm")
@click.argument("original", required=False, metavar="[NAME|FILE]", shell_complete=values)
def import_machine(original: str | None) -> None:
    """Take in a machine of boot2docker or docker-machine.

    It is a copy: the original stays as it is. NAME is one of VirtualBox's or docker-machine's, FILE a disk, a .vbox
    file, or docker-machine's folder of a machine. Alone it lists what there is.
    """
    from b2d import machine_names
    from b2d.app import hooks
    from b2d.app.import_machine import bring_in, known
    from b2d.importing.candidates import chosen

    if original is None:
        _list()
        return
    found = chosen(original, known(app()))
    name = str(given(click.get_current_context()).get("vm") or found.name)
    if not machine_names.is_sound(name):
        raise ConfigError(f"{name!r} cannot be a machine's name here", hint="b2d import ... --vm NAME")
    it = app(vm=name)
    if found.had_aufs:
        version = found.volume.version if found.volume else ""
        it.reporter.warn(f"{name} was boot2docker {version}: what it kept on AUFS, no Docker of today can read")
    changed = bring_in(it, found)
    if changed:
        hooks.made(it)
    said = f"is made of {found.disk}; start it: b2d up --vm {name}" if changed else "is there already"
    say(f"{name} {said}")
    answer({"name": name, "changed": changed, "original": found.disk})


def _list() -> None:
    from b2d.app.import_machine import known

    found = [one for one in known(app()) if one.is_boot2docker]
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
    answer(documents, table([("NAME", "STATE", "MEMORY", "DISK"), *rows]) if rows else "")
    if not rows:
        say("no machine of boot2docker or docker-machine was found; a disk can be given as a file")
