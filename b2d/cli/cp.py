"""The verb cp."""

import os
import sys
from typing import TYPE_CHECKING

import click

from b2d.cli.base import Command, app, as_json, print_line, print_result
from b2d.errors import B2dError, ConfigError

if TYPE_CHECKING:
    from b2d.guest.transfer.copier import Copied, Copier
    from b2d.guest.transfer.copy_endpoints import CopyEndpoint

STDOUT = 1
USAGE = "b2d cp FILE :PATH, or b2d cp :PATH FILE"


@click.command(cls=Command, example="b2d cp site.conf :/tmp && b2d cp :/var/log/docker.log .")
@click.argument("places", nargs=-1, required=True, metavar="SOURCE... TARGET", type=click.Path())
def cp(places: tuple[str, ...]) -> None:
    """Copy files, folders; `[VM]:PATH` is in a machine, `-` an archive."""
    from b2d.guest.base import StreamsCommands
    from b2d.guest.transfer.copier import Copier
    from b2d.guest.transfer.copy_endpoints import parse_endpoint

    *sources, target = map(parse_endpoint, places)
    there = _machine(sources, target)
    if target.is_stream and (as_json() or os.isatty(STDOUT)):
        raise ConfigError("an archive goes into a file or a pipe", hint="b2d cp :PATH - >FILE.tar")
    it = app()
    name = there or it.settings.vm
    guest = it.machine(name).guest()
    assert isinstance(guest, StreamsCommands)
    copied = _report_copied(Copier(name, guest, it.reporter), sources, target)
    files = sum(one.files for one in copied)
    if copied:
        print_line(f"{files} file{'' if files == 1 else 's'}: {', '.join(one.path for one in copied)}")
        print_result({"name": name, "files": files, "paths": [one.path for one in copied]})


def _machine(sources: "list[CopyEndpoint]", target: "CopyEndpoint") -> str:
    """Of which machine one side is, the other being this host's. Raises ConfigError."""
    if not sources:
        raise ConfigError("it takes a source and a target", hint=USAGE)
    if any(one.machine != sources[0].machine for one in sources):
        raise ConfigError("what is copied is all of one machine, or all of this host", hint=USAGE)
    if (sources[0].machine is None) == (target.machine is None):
        where = "this host's: cp does that" if target.machine is None else "a machine's: go by a folder of this host"
        raise ConfigError(f"both sides are {where}", hint=USAGE)
    if len(sources) > 1 and any(one.is_stream for one in (*sources, target)):
        raise ConfigError("an archive is a source, or a target, alone", hint=USAGE)
    return target.machine or sources[0].machine or ""


def _report_copied(copying: "Copier", sources: "list[CopyEndpoint]", target: "CopyEndpoint") -> "list[Copied]":
    many = len(sources) > 1
    if target.is_stream:
        copying.fetch_stream(sources[0].path, _send_or_fetch)
        return []
    if sources[0].is_stream:
        return [copying.send_stream(sys.stdin.buffer, target.path)]
    copy = copying.send if target.machine is not None else copying.fetch
    return [copy(one.path, target.path, many=many) for one in sources]


def _send_or_fetch(piece: bytes) -> None:
    from b2d.guest.ssh import streams

    try:
        streams.write(STDOUT, piece)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise B2dError(f"the archive cannot be written: {error.strerror}") from error
