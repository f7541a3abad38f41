"""The verb autostart."""

import click

from b2d.cli.base import Command, app, environment, print_line, print_result

ENABLE, DISABLE = "enable", "disable"


@click.command(cls=Command, example="b2d autostart enable")
@click.argument("what", required=False, metavar="[enable|disable]", type=click.Choice((ENABLE, DISABLE)))
def autostart(what: str | None) -> None:
    """Have the machine come up when you log in."""
    from b2d.host.autostart import items as starting

    it = app()
    name = it.settings.vm
    item = starting.login_item(it.home.machine(name), it.home, environment())
    changed = False
    if what == ENABLE:
        it.machine().spec()
        changed = item.put()
        for remark in item.remarks():
            it.reporter.note(remark)
    elif what == DISABLE:
        changed = item.remove()
    on = item.is_on()
    document: dict[str, object] = {"name": name, "enabled": on, "where": item.where if on else None}
    if what is None:
        print_result(document, "enabled" if on else "disabled")
        return
    how = f"comes up at login{'' if changed else ' already'}: {item.where}" if on else "does not come up at login"
    print_line(f"{name} {how}")
    print_result(document | {"changed": changed})
