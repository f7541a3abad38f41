"""Commands that connect other programs to a machine: OpenSSH, the docker client, and any command."""

import os

import click

from b2d.cli.base import Command, create_app, is_json, machine_command, print_line, print_result
from b2d.errors import ConfigError

NOT_FOUND, NOT_RUN = 127, 126  # the exit codes of shells


@click.command("ssh-config", cls=Command, example="b2d ssh-config >>~/.ssh/config && ssh boot2docker-vm")
@click.option("--host", metavar="NAME", help="Host name in the block.  [the machine's name]")
def ssh_config(host: str | None) -> None:
    """Print a configuration block for OpenSSH, scp and editors."""
    from b2d.cli.fast_status import warn_refusals
    from b2d.guest.ssh.keys import ensure_known
    from b2d.guest.ssh.openssh_config import config_block

    app = create_app()
    machine = app.machine()
    facts = machine.facts()
    if host is not None and (not host or any(sign.isspace() or sign in "*?!\"'" for sign in host)):
        raise ConfigError(f"{host!r} is not a valid host name for ~/.ssh/config", hint="--host NAME, a single word")
    ensure_known(machine.paths)
    warn_refusals(app, machine.state())
    text = config_block(host or machine.name, facts.address, facts.ssh_port, machine.paths)
    print_result({"host": host or machine.name, "config": text}, text.rstrip("\n"))


@click.command(
    cls=Command,
    read_only=True,
    example="b2d run -- docker compose up -d",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...]) -> int:
    """Run COMMAND on this host with the machine's Docker environment.

    The exit code is the command's.
    """
    from b2d.host import processes
    from b2d.host.signals import ignored_in_child
    from b2d.shell import variables

    if is_json():
        raise ConfigError(
            "run cannot print JSON: its output is the command's", hint=machine_command("run -- COMMAND --json")
        )
    changes = variables.set_changes(create_app().machine().facts().docker.variables(), os.environ)
    changes.pop(variables.BEFORE)  # only shells undo the changes later
    environment = {name: value for name, value in (dict(os.environ) | changes).items() if value or name not in changes}
    try:
        with ignored_in_child():
            code = processes.run_in_foreground(list(command), environment)
    except processes.ProgramNotFoundError as error:
        exit_code = NOT_RUN if isinstance(error, processes.ProgramNotExecutableError) else NOT_FOUND
        raise error.replace(exit_code=exit_code, hint=machine_command("run -- COMMAND")) from error
    return code if code >= 0 else 128 - code  # negative: ended by that signal


@click.command(cls=Command, example="b2d context --use && docker ps")
@click.option("--use", is_flag=True, help="Select the context for all shells without DOCKER_HOST.")
@click.option("--remove", is_flag=True, help="Remove the context.")
def context(use: bool, remove: bool) -> None:
    """Create the machine's Docker context, as `up` does, or remove it."""
    from b2d.docker.context import DockerContext

    app = create_app()
    name = app.settings.vm
    docker_context = DockerContext(app.home.machine(name), os.environ)
    if use and remove:
        raise ConfigError("--use and --remove exclude each other", hint=machine_command("context --use"))
    if remove:
        changed = docker_context.remove()
        print_line(f"the context {name} is removed" if changed else f"there is no context {name}")
        print_result({"name": name, "changed": changed})
        return
    changed = docker_context.put(app.machine().facts().docker)
    if use:
        docker_context.use()
    print_line(
        f"docker uses the context {name}" if use else f"docker has the context {name}: docker --context {name} ps"
    )
    print_result({"name": name, "changed": changed}, name)
