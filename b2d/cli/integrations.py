"""A machine for other programs: what OpenSSH and docker's client are told of it, and commands that find its Docker."""

import os

import click

from b2d.cli.base import Command, app, as_json, print_line, print_result
from b2d.errors import ConfigError

NOT_FOUND, NOT_RUN = 127, 126  # as shells have them


@click.command("ssh-config", cls=Command, example="b2d ssh-config >>~/.ssh/config && ssh boot2docker-vm")
@click.option("--host", metavar="NAME", help="What it is called there.  [the machine's name]")
def ssh_config(host: str | None) -> None:
    """What ssh, scp and editors need to reach the machine."""
    from b2d.cli.fast_status import print_state
    from b2d.guest.ssh.keys import ensure_known
    from b2d.guest.ssh.openssh_config import config_block

    it = app()
    machine = it.machine()
    facts = machine.facts()
    if host is not None and (not host or any(sign.isspace() or sign in "*?!\"'" for sign in host)):
        raise ConfigError(f"{host!r} cannot be a host's name in ~/.ssh/config", hint="--host NAME, a word")
    ensure_known(machine.paths)
    print_state(it, machine.state())
    text = config_block(host or machine.name, facts.address, facts.ssh_port, machine.paths)
    print_result({"host": host or machine.name, "config": text}, text.rstrip("\n"))


@click.command(
    cls=Command,
    looks=True,
    example="b2d run -- docker compose up -d",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...]) -> int:
    """Run COMMAND here, with the machine's Docker. Its exit code is the command's."""
    from b2d.host import processes
    from b2d.host.signals import ignored_in_child
    from b2d.shell import variables

    if as_json():
        raise ConfigError("run says what the command says, and not in JSON", hint="b2d run COMMAND --json")
    changes = variables.set_changes(app().machine().facts().docker.variables(), os.environ)
    changes.pop(variables.BEFORE)  # that is for shells, which go back some day
    environment = {name: value for name, value in (dict(os.environ) | changes).items() if value or name not in changes}
    try:
        with ignored_in_child():
            code = processes.replace_process(list(command), environment)
    except processes.ProgramNotFoundError as error:
        error.exit_code = NOT_RUN if "cannot be run" in error.message else NOT_FOUND
        error.hint = "b2d run -- COMMAND"
        raise
    return code if code >= 0 else 128 - code  # a signal ended it


@click.command(cls=Command, example="b2d context --use && docker ps")
@click.option("--use", is_flag=True, help="Select it: docker goes there in every shell without DOCKER_HOST.")
@click.option("--remove", is_flag=True, help="Take it away.")
def context(use: bool, remove: bool) -> None:
    """The machine as a context of docker's; `up` makes it, too."""
    from b2d.docker.context import DockerContext

    it = app()
    name = it.settings.vm
    one = DockerContext(it.home.machine(name), os.environ)
    if use and remove:
        raise ConfigError("it cannot be selected and taken away", hint="b2d context --use")
    if remove:
        changed = one.remove()
        print_line(f"the context {name} is {'removed' if changed else 'not there'}")
        print_result({"name": name, "changed": changed})
        return
    changed = one.put(it.machine().facts().docker)
    if use:
        one.use()
    print_line(f"docker {'uses' if use else 'knows'} {name}" + ("" if use else f": docker --context {name} ps"))
    print_result({"name": name, "changed": changed}, name)
