"""The verbs of one machine, as commands. What not every one of them needs is imported where it is used."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from b2d.cli.base import (
    Command,
    app,
    as_json,
    command_line_settings,
    complete_values,
    print_json,
    print_line,
    print_result,
    write,
)
from b2d.config.loader import DEFAULT
from b2d.errors import B2dError, ConfigError, InvalidStateError, MachineNotFoundError

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.machine.lifecycle import Machine
    from b2d.machine_store.store import RunningFacts


@click.command(cls=Command, makes=True, example="b2d init --memory 4096 --disk 40000")
def init() -> None:
    """Make a machine, and its image first where there is none."""
    from b2d.machine import exposure

    base = command_line_settings(click.get_current_context()).pop("basevmdk", None)
    it = app()
    if base is None:
        made = it.machine().init(it)
    else:
        from b2d.app.import_machine import create_from_disk

        made = create_from_disk(it, Path(str(base)))
    if made:
        exposure.report(it.machine().exposures(booted=False), it.reporter)
        print_line(f"{it.settings.vm} is made; start it: b2d up")
    else:
        print_line(f"{it.settings.vm} is there already")
        _warn_ignored_options(it)
    print_result({"name": it.settings.vm, "changed": made})


@click.command(cls=Command, makes=True, example='b2d up && eval "$(b2d shellinit)" && docker ps')
def up() -> None:
    """Start the machine, or make it first; ends when Docker answers."""
    it = app()
    machine = it.machine()
    if machine.exists():
        _warn_ignored_options(it)
    _report_up(it, machine.up(it))


def _warn_ignored_options(it: "App") -> None:
    """What was asked for and has no effect is not passed over in silence, whoever asked."""
    origins, settings, spec = it.effective.origins, it.settings, it.machine().spec()
    sizes = {"memory": spec.memory_mib, "cpus": spec.cpus, "disk": spec.disk_mib}
    other = [f"{key}={getattr(settings, key)}" for key, has in sizes.items() if getattr(settings, key) != has]
    asked = [wish for wish in other if origins[wish.partition("=")[0]] != DEFAULT]
    if asked:
        it.reporter.note(f"{spec.name} was made otherwise, and stays so: b2d set {' '.join(asked)}")
    given = [origins[key] for key in ("image", "tls", "share") if origins[key].startswith("--")]
    if given:
        named = ", ".join(given).replace("--tls", "--no-tls")
        later = "; its folders: b2d set share=..." if settings.share and origins["share"].startswith("--") else ""
        it.reporter.note(f"{named}: only a new machine gets that, and {spec.name} stays as it is{later}")


def _report_up(it: "App", facts: "RunningFacts") -> None:
    """Where it is and what to type next, unless this shell is there already."""
    from dataclasses import asdict

    from b2d.host_agent import control
    from b2d.shell import detect, export

    refusals = control.refusals(it.home.machine(it.settings.vm)) or ()
    print_line(_endpoints(it.settings.vm, facts, {refusal.service for refusal in refusals}))
    wanted = facts.docker.variables()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        name = "" if it.settings.vm == "boot2docker-vm" else f" --vm {it.settings.vm}"
        how = export.HOW[detect.detect(os.environ)].format(f"b2d shellinit{name}")
        print_line(f"to use it in this shell: {how}")
    print_result({"name": it.settings.vm, **asdict(facts)})


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


def _print_state(it: "App", changed: bool, now: str) -> None:
    print_line(f"{it.settings.vm} is {now}" if changed else f"{it.settings.vm} is {now} already")
    print_result({"name": it.settings.vm, "changed": changed})


@click.command(cls=Command, example="b2d stop")
def stop() -> None:
    """Power the machine off, cleanly."""
    it = app()
    machine = it.machine()
    changed = machine.stop()
    off = "saved, and so off" if not changed and machine.state() == "saved" else "off"
    _print_state(it, changed, "stopped" if changed else off)


@click.command(cls=Command, example="b2d restart")
def restart() -> None:
    """Stop and start again."""
    it = app()
    it.check_network()
    _report_up(it, it.machine().restart())


@click.command(cls=Command, example="b2d reset")
def reset() -> None:
    """Cut the power and start again."""
    it = app()
    it.check_network()
    _report_up(it, it.machine().reset())


@click.command(cls=Command, example="b2d poweroff")
def poweroff() -> None:
    """Cut the power: what was not written yet is lost."""
    it = app()
    _print_state(it, it.machine().poweroff(), "off")


@click.command(cls=Command, example="b2d save")
def save() -> None:
    """Write the machine's state to disk; `b2d up` goes on there."""
    it = app()
    _print_state(it, it.machine().save(), "saved")


@click.command(cls=Command, example="b2d delete --yes")
@click.option("-y", "--yes", "-f", "--force", "yes", is_flag=True, help="Do not ask.")
def delete(yes: bool) -> None:
    """Remove the machine with all that is on its disk; images stay."""
    it = app()
    folder = it.home.machine(it.settings.vm).folder
    machine = it.machine()
    if it.settings.vm not in (*it.store.names(), *it.store.lost()):
        stays = f": {folder} holds nothing of b2d's, and stays as it is" if os.path.lexists(folder) else ""
        print_line(f"there is no machine {it.settings.vm}{stays}")
        print_result({"name": it.settings.vm, "changed": False})
        return
    if not yes:
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
        _confirm(it.settings.vm, _state(machine), names)
    machine.delete()
    print_line(f"{it.settings.vm} is deleted")
    print_result({"name": it.settings.vm, "changed": True})


def _state(machine: "Machine") -> str:
    """Also of one that cannot be asked: it is to go all the same."""
    try:
        return machine.state()
    except B2dError as error:
        return error.message


def _confirm(name: str, state: str, files: list[str]) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(f"{name} would be deleted with all its data, and nobody can be asked", hint="--yes")
    print_line(f"{name} ({state}) goes, with its containers, volumes and images: {', '.join(files)}")
    if not click.confirm("delete it?", err=True):
        raise B2dError(f"{name} was not deleted")


@click.command(
    cls=Command,
    example="b2d ssh -- tail -n 5 /var/log/docker.log",
    context_settings={"allow_interspersed_args": False},
)
@click.option("-t", "--tty", is_flag=True, help="Give COMMAND a terminal: docker run -it wants one.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(tty: bool, command: tuple[str, ...]) -> int:
    """A shell in the machine, or COMMAND there. Its exit code is the command's; 255: no connection."""
    from b2d.guest.ssh import terminal
    from b2d.guest.ssh.client import NO_EXIT_CODE, command_line

    if as_json():
        raise ConfigError("ssh says what the guest says, and not in JSON", hint="b2d ssh COMMAND --json")
    line = command_line(command) if command else None
    try:
        guest = app().machine().guest()
        if tty and terminal.is_terminal():
            return guest.run_in_pty(line)
        if tty:
            print_line("warning: stdin is not a terminal, so the command gets none")
        return guest.shell(line)
    except ConfigError:
        raise
    except B2dError as error:
        error.exit_code = NO_EXIT_CODE  # as ssh: no command has this code for itself
        raise


@click.command(cls=Command, looks=True, example='eval "$(b2d shellinit)"')
@click.option(
    "--shell",
    metavar="NAME",
    shell_complete=complete_values,
    help="sh, fish, tcsh, powershell, cmd or nu.  [the one that asks]",
)
@click.option("--unset", is_flag=True, help="Make the variables what they were before.")
def shellinit(shell: str | None, unset: bool) -> int:
    """What a shell evaluates to find its Docker."""
    from b2d.shell import detect, export, variables

    if shell and shell not in detect.FAMILIES:
        raise ConfigError(f"there is no shell {shell!r}", hint=f"one of {', '.join(detect.FAMILIES)}")
    environ = dict(os.environ)
    try:
        if unset:
            changes = variables.unset_changes(environ)
        else:
            changes = variables.set_changes(app().machine().facts().docker.variables(), environ)
    except (MachineNotFoundError, InvalidStateError) as error:
        if as_json():
            raise
        print_line(f"b2d: {error.message}; try: {error.hint}")  # in every new shell: one line
        return error.exit_code
    if as_json():
        write(export.render(changes, "nu") or "{}\n")
    elif changes:
        write(export.render(changes, detect.FAMILIES[shell] if shell else detect.detect(environ)))
    else:
        print_line("b2d: there is nothing to undo: this shell has evaluated no shellinit")
    return 0


@click.command(cls=Command, looks=True, example="curl http://$(b2d ip):8080/")
def ip() -> None:
    """The address at which the machine is reached."""
    address = app().machine().facts().address
    print_result({"address": address}, address)


@click.command(cls=Command, looks=True, example="b2d status || b2d up")
def status() -> int:
    """How the machine is. Exit code 0: running, 4: not running, 3: absent."""
    from b2d.cli.fast_status import exit_code, print_state

    it = app()
    state = it.machine().state()
    print_state(it, state)
    print_result({"name": it.settings.vm, "state": state}, state)
    return exit_code(state)


@click.command(cls=Command, looks=True, example="b2d info")
def info() -> None:
    """What the machine is to be, and what it `has`, as JSON."""
    from b2d.app import inspect

    it = app()
    print_json(inspect.describe_machine(it, it.settings.vm))  # it never is anything else


@click.command(cls=Command, example="b2d screenshot screen.png")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def screenshot(file: Path) -> None:
    """What is on the machine's screen, written to FILE as a PNG."""
    from b2d.host.files import os_errors_as_b2d_errors, write_atomic

    picture = app().machine().screenshot()
    with os_errors_as_b2d_errors(file):
        write_atomic(file.absolute(), picture, 0o644)
    print_line(f"the screen is in {file}")
    print_result({"path": file.absolute()})
