"""Commands for one machine. Modules that only some of them need are imported inside the functions."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from b2d.cli.base import (
    Command,
    command_line_settings,
    complete_values,
    confirm,
    create_app,
    is_json,
    machine_command,
    print_json,
    print_line,
    print_result,
    write,
)
from b2d.config.loader import DEFAULT
from b2d.errors import B2dError, ConfigError, InvalidStateError, MachineNotFoundError
from b2d.machine_names import command_for

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.machine.lifecycle import Machine
    from b2d.machine_store.running_facts import RunningFacts


@click.command(cls=Command, creates=True, example="b2d init --memory 4096 --disk 40000")
def init() -> None:
    """Create a machine, and build its image if there is none."""
    from b2d.machine import exposure

    base_disk = command_line_settings(click.get_current_context()).pop("basevmdk", None)
    app = create_app()
    if base_disk is None:
        created = app.machine().init(app)
    else:
        from b2d.app.import_machine import create_from_disk

        created = create_from_disk(app, Path(str(base_disk)))
    if created:
        exposure.report(app.machine().exposures(booted=False), app.reporter)
        print_line(f"{app.settings.vm} is created; start it: {command_for('up', app.settings.vm)}")
    else:
        print_line(f"{app.settings.vm} exists already")
        _warn_ignored_options(app)
    print_result({"name": app.settings.vm, "changed": created})


@click.command(cls=Command, creates=True, example='b2d up && eval "$(b2d shellinit)" && docker ps')
def up() -> None:
    """Start the machine, creating it if needed, and wait for Docker."""
    app = create_app()
    machine = app.machine()
    if machine.exists():
        _warn_ignored_options(app)
    _report_up(app, machine.up(app))


def _warn_ignored_options(app: "App") -> None:
    """Report the options and settings that have no effect on an existing machine, wherever they come from."""
    origins, settings, spec = app.effective.origins, app.settings, app.machine().spec()
    sizes = {"memory": spec.memory_mib, "cpus": spec.cpus, "disk": spec.disk_mib}
    differing = [f"{key}={getattr(settings, key)}" for key, size in sizes.items() if getattr(settings, key) != size]
    requested = [pair for pair in differing if origins[pair.partition("=")[0]] != DEFAULT]
    if requested:
        command = command_for(f"set {' '.join(requested)}", spec.name)
        app.reporter.note(f"{spec.name} was created with other values and keeps them; to change them: {command}")
    given = [origins[key] for key in ("image", "tls", "share") if origins[key].startswith("--")]
    if given:
        options = ", ".join(given).replace("--tls", "--no-tls")
        command = command_for("set share=...", spec.name)
        changes_folders = settings.share and origins["share"].startswith("--")
        change = f"; to change its folders: {command}" if changes_folders else ""
        app.reporter.note(f"only new machines take {options}; {spec.name} is unchanged{change}")


def _report_up(app: "App", facts: "RunningFacts") -> None:
    """Print where Docker is, and what to type next unless this shell uses the machine already."""
    from b2d.formats import json_text
    from b2d.host_agent import control
    from b2d.shell import detect, export

    refusals = control.refusals(app.home.machine(app.settings.vm)) or ()
    print_line(_endpoints(app.settings.vm, facts, {refusal.service for refusal in refusals}))
    variables = facts.docker.variables()
    if any(os.environ.get(name) != value for name, value in variables.items()):
        line = export.EVALUATION[detect.detect(os.environ)].format(command_for("shellinit", app.settings.vm))
        print_line(f"to use it in this shell: {line}")
    print_result({"name": app.settings.vm, **json_text.document(facts)})


def _endpoints(name: str, facts: "RunningFacts", refused: set[str]) -> str:
    """Return where clients find the Docker of a machine that is up, without the services that its agent was refused."""
    from b2d.host_agent.report import DOCKER, DOCKER_SOCKET

    by_tcp = f"tcp://{facts.address}:{facts.docker_port}"
    if facts.docker.host == by_tcp:
        return f"{name} is up" if DOCKER in refused else f"{name} is up: {by_tcp}"
    hosts = [] if DOCKER_SOCKET in refused else [facts.docker.host]
    if DOCKER not in refused:
        hosts.append(f"for tools that need TCP: {by_tcp}" if hosts else by_tcp)
    return f"{name} is up: {'; '.join(hosts)}" if hosts else f"{name} is up"


def _print_state(app: "App", changed: bool, state: str) -> None:
    print_line(f"{app.settings.vm} is {state}" if changed else f"{app.settings.vm} is {state} already")
    print_result({"name": app.settings.vm, "changed": changed})


@click.command(cls=Command, example="b2d stop")
def stop() -> None:
    """Shut the machine down cleanly."""
    app = create_app()
    machine = app.machine()
    changed = machine.stop()
    off = "saved and off" if not changed and machine.state() == "saved" else "off"
    _print_state(app, changed, "stopped" if changed else off)


@click.command(cls=Command, example="b2d restart")
def restart() -> None:
    """Shut the machine down and start it again."""
    app = create_app()
    app.check_network()
    _report_up(app, app.machine().restart())


@click.command(cls=Command, example="b2d reset")
def reset() -> None:
    """Cut the machine's power and start it again."""
    app = create_app()
    app.check_network()
    _report_up(app, app.machine().reset())


@click.command(cls=Command, example="b2d poweroff")
def poweroff() -> None:
    """Cut the machine's power; unwritten data is lost."""
    app = create_app()
    _print_state(app, app.machine().poweroff(), "off")


@click.command(cls=Command, example="b2d save")
def save() -> None:
    """Save the machine's state to disk; `b2d up` resumes it."""
    app = create_app()
    _print_state(app, app.machine().save(), "saved")


@click.command(cls=Command, example="b2d delete --yes")
@click.option("-y", "--yes", "-f", "--force", "yes", is_flag=True, help="Do not ask for confirmation.")
def delete(yes: bool) -> None:
    """Delete the machine and all data on its disk; images are kept."""
    app = create_app()
    folder = app.home.machine(app.settings.vm).folder
    machine = app.machine()
    if app.settings.vm not in (*app.store.names(), *app.store.lost()):
        note = f"; {folder} contains no files of b2d and is not deleted" if os.path.lexists(folder) else ""
        print_line(f"there is no machine {app.settings.vm}{note}")
        print_result({"name": app.settings.vm, "changed": False})
        return
    if not yes:
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
        files = f": {', '.join(names)}" if names else ""
        data = f"its containers, volumes and images{files}"
        confirm(f"{app.settings.vm} ({_describe_state(machine)}) will be deleted with {data}")
    machine.delete()
    print_line(f"{app.settings.vm} is deleted")
    print_result({"name": app.settings.vm, "changed": True})


def _describe_state(machine: "Machine") -> str:
    """Return the machine's state, or the error when it cannot be read: such a machine can be deleted too."""
    try:
        return machine.state()
    except B2dError as error:
        return error.message


@click.command(
    cls=Command,
    example="b2d ssh -- tail -n 5 /var/log/docker.log",
    context_settings={"allow_interspersed_args": False},
)
@click.option("-t", "--tty", is_flag=True, help="Allocate a terminal for COMMAND, as `docker run -it` needs.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(tty: bool, command: tuple[str, ...]) -> int:
    """Open a shell in the machine, or run COMMAND in it.

    The exit code is the command's; 255 means that there was no connection.
    """
    from b2d.guest.base import NO_EXIT_CODE
    from b2d.guest.ssh import terminal
    from b2d.guest.ssh.client import command_line

    if is_json():
        raise ConfigError(
            "ssh cannot print JSON: its output is the command's", hint=machine_command("ssh -- COMMAND --json")
        )
    line = command_line(command) if command else None
    try:
        guest = create_app().machine().guest()
        if tty and terminal.is_terminal():
            return guest.run_in_pty(line)
        if tty:
            print_line("warning: stdin is not a terminal, so the command gets none")
        return guest.shell(line)
    except ConfigError:
        raise
    except B2dError as error:
        raise error.replace(exit_code=NO_EXIT_CODE) from error  # as ssh does: no command uses this code itself


@click.command(cls=Command, read_only=True, example='eval "$(b2d shellinit)"')
@click.option(
    "--shell",
    metavar="NAME",
    shell_complete=complete_values,
    help="Shell: sh, fish, tcsh, powershell, cmd or nu.  [the calling one]",
)
@click.option("--unset", is_flag=True, help="Restore the variables' previous values.")
def shellinit(shell: str | None, unset: bool) -> int:
    """Print the commands that set up the Docker environment."""
    from b2d.shell import detect, export, variables

    if shell and shell not in detect.FAMILIES:
        raise ConfigError(f"there is no shell {shell!r}", hint=f"one of {', '.join(detect.FAMILIES)}")
    environ = dict(os.environ)
    try:
        if unset:
            changes = variables.unset_changes(environ)
        else:
            changes = variables.set_changes(create_app().machine().facts().docker.variables(), environ)
    except (MachineNotFoundError, InvalidStateError) as error:
        if is_json():
            raise
        print_line(f"b2d: {error.message}; try: {error.hint}")  # one line, since every new shell may print it
        return error.exit_code
    if is_json():
        write(export.render(changes, "nu") or "{}\n")
    elif changes:
        write(export.render(changes, detect.FAMILIES[shell] if shell else detect.detect(environ)))
    else:
        print_line("b2d: there is nothing to undo: this shell has not evaluated shellinit")
    return 0


@click.command(cls=Command, read_only=True, example="curl http://$(b2d ip):8080/")
def ip() -> None:
    """Print the machine's IP address."""
    address = create_app().machine().facts().address
    print_result({"address": address}, address)


@click.command(cls=Command, read_only=True, example="b2d status || b2d up")
def status() -> int:
    """Print the machine's state.

    The exit code is 0 when the machine is running, 4 when it is not running, and 3 when there is none.
    """
    from b2d.cli.fast_status import exit_code, warn_refusals

    app = create_app()
    state = app.machine().state()
    warn_refusals(app, state)
    print_result({"name": app.settings.vm, "state": state}, state)
    return exit_code(state)


@click.command(cls=Command, read_only=True, example="b2d info")
def info() -> None:
    """Show configuration and state as JSON."""
    from b2d.app import inspect

    app = create_app()
    print_json(inspect.describe_machine(app, app.settings.vm))  # JSON with and without --json


@click.command(cls=Command, example="b2d screenshot screen.png")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def screenshot(file: Path) -> None:
    """Save the machine's screen to FILE as a PNG."""
    from b2d.host.files import os_errors_as_b2d_errors, write_atomic

    picture = create_app().machine().screenshot()
    with os_errors_as_b2d_errors(file):
        write_atomic(file.absolute(), picture, 0o644)
    print_line(f"the screenshot is in {file}")
    print_result({"path": file.absolute()})
