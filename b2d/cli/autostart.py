"""The command autostart."""

import click

from b2d.cli.base import Command, create_app, get_environment, print_line, print_result

ENABLE, DISABLE = "enable", "disable"


@click.command(cls=Command, example="b2d autostart enable")
@click.argument("action", required=False, metavar="[enable|disable]", type=click.Choice((ENABLE, DISABLE)))
def autostart(action: str | None) -> None:
    """Show, enable or disable the machine's start at login."""
    from b2d.host.autostart import items

    app = create_app()
    name = app.settings.vm
    item = items.login_item(app.home.machine(name), app.home, get_environment())
    changed = False
    if action == ENABLE:
        app.machine().spec()
        changed = item.put()
        for remark in item.remarks():
            app.reporter.note(remark)
    elif action == DISABLE:
        changed = item.remove()
    on = item.is_on()
    document: dict[str, object] = {"name": name, "enabled": on, "where": item.where if on else None}
    if action is None:
        print_result(document, "enabled" if on else "disabled")
        return
    outcome = f"starts at login{'' if changed else ' already'}: {item.where}" if on else "does not start at login"
    print_line(f"{name} {outcome}")
    print_result(document | {"changed": changed})
