"""The command cp."""

import os
import sys
from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, create_app, is_json, machine_command, print_line, print_result
from b2d.errors import B2dError, ConfigError

if TYPE_CHECKING:
    from b2d.guest.transfer.copier import Copied, Copier
    from b2d.guest.transfer.copy_endpoints import CopyEndpoint

STDOUT = 1


@click.command(cls=Command, example="b2d cp site.conf :/tmp && b2d cp :/var/log/docker.log .")
@click.argument("endpoints", nargs=-1, required=True, metavar="SOURCE... TARGET", type=click.Path())
def cp(endpoints: tuple[str, ...]) -> None:
    """Copy files between this host and a machine.

    [VM]:PATH is a path in a machine, and - a tar archive on stdin or stdout. Folders are copied whole.
    """
    from b2d.guest.base import StreamsCommands
    from b2d.guest.transfer.copier import Copier
    from b2d.guest.transfer.copy_endpoints import parse_endpoint

    *sources, target = map(parse_endpoint, endpoints)
    given_name = _machine_name(sources, target)
    if target.is_stream and (is_json() or os.isatty(STDOUT)):
        raise ConfigError("an archive must go to a file or a pipe", hint=f"{machine_command('cp :PATH -')} >FILE.tar")
    app = create_app()
    name = given_name or app.settings.vm
    guest = app.machine(name).guest()
    assert isinstance(guest, StreamsCommands)
    copies = _copy(Copier(name, guest, app.reporter), sources, target)
    files = sum(copy.files for copy in copies)
    if copies:
        print_line(f"{files} file{'' if files == 1 else 's'}: {', '.join(copy.path for copy in copies)}")
        print_result({"name": name, "files": files, "paths": [copy.path for copy in copies]})


def _machine_name(sources: "list[CopyEndpoint]", target: "CopyEndpoint") -> str:
    """Return the machine's name on the side that is a machine, "" when it is not given. Raises ConfigError."""
    usage = f"{machine_command('cp FILE :PATH')}, or {machine_command('cp :PATH FILE')}"
    if not sources:
        raise ConfigError("cp needs a source and a target", hint=usage)
    if any(source.machine != sources[0].machine for source in sources):
        raise ConfigError("the sources must all be in the same machine, or all on this host", hint=usage)
    if (sources[0].machine is None) == (target.machine is None):
        if target.machine is None:
            raise ConfigError("source and target are both on this host: use cp", hint=usage)
        raise ConfigError("source and target are both in a machine: copy through a folder of this host", hint=usage)
    if len(sources) > 1 and any(endpoint.is_stream for endpoint in (*sources, target)):
        raise ConfigError("an archive must be the only source, or the target of one source", hint=usage)
    return target.machine or sources[0].machine or ""


def _copy(copier: "Copier", sources: "list[CopyEndpoint]", target: "CopyEndpoint") -> "list[Copied]":
    many = len(sources) > 1
    if target.is_stream:
        copier.fetch_stream(sources[0].path, _write_archive)
        return []
    if sources[0].is_stream:
        return [copier.send_stream(sys.stdin.buffer, target.path)]
    copy = copier.send if target.machine is not None else copier.fetch
    return [copy(source.path, target.path, many=many) for source in sources]


def _write_archive(piece: bytes) -> None:
    from b2d.guest.ssh import streams

    try:
        streams.write(STDOUT, piece)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise B2dError(f"the archive cannot be written: {error.strerror}") from error
