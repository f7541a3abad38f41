"""The verbs for when something does not work: doctor, logs and support. What not every one needs is imported there."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from b2d.cli.base import (
    Command,
    app,
    as_json,
    check_writable_home,
    environment,
    print_json,
    print_line,
    print_result,
    reporter,
    write,
)
from b2d.errors import B2dError, ConfigError, HypervisorError, InvalidStateError, WaitTimeoutError

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.machine.lifecycle import Machine

END_S = 5.0  # in which a machine whose connection has broken is seen to end


@click.command(cls=Command, looks=True, example="b2d doctor --fix")
@click.option("--fix", is_flag=True, help="Install what is missing, close what is open, remove what was left.")
def doctor(fix: bool) -> int:
    """Look at all that b2d needs on this host, and at its machines."""
    from dataclasses import asdict

    from b2d.doctor.finding import Verdict

    if fix:
        check_writable_home()
    it, unread = _app_or_none()
    found = list(it.examination(unread).findings())
    if fix:
        from b2d.doctor import fixes
        from b2d.host.package_managers import Installer

        fixes.Cleaner(it.home, lambda spec: it.driver(spec).state(), it.images.remove, it.reporter).clean(found)
        fixes.apply_fixes(found, it.home, Installer(), it.reporter)
        found = list(it.examination(unread).findings())
    print_result([asdict(one) for one in found], "\n".join(one.line for one in found))
    bad = [one.name for one in found if one.verdict is Verdict.BAD]
    error = unread or HypervisorError(f"b2d cannot work here: {', '.join(bad)}", hint="b2d doctor --fix")
    if bad and not as_json():
        raise error
    return error.exit_code if bad else 0  # in JSON the findings say it


@click.command(cls=Command, example="b2d logs --docker -f")
@click.option("--docker", "which", flag_value="docker", help="The Docker engine's log in place of the console.")
@click.option("--hypervisor", "which", flag_value="hypervisor", help="What QEMU or VirtualBox said.")
@click.option("--b2d", "which", flag_value="b2d", help="What nobody foresaw, of all machines.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="Only the last N lines.")
def logs(which: str | None, follow: bool, tail: int | None) -> None:
    """The console since the start of the machine, or another log."""
    from b2d.app import inspect
    from b2d.diagnostics import logs as kept
    from b2d.guest.ssh.streams import is_without_reader

    if follow and as_json():
        raise ConfigError("a log that goes on is no JSON document", hint="b2d logs --json")
    it = app()
    if which == "docker" and follow:
        _follow_docker(it.machine(), tail)
    elif follow:
        kept.follow(inspect.log_file(it, which or "console"), tail, _show(), lambda: is_without_reader(1))
    else:
        _printable(inspect.read_log(it, which or "console", tail))


def _printable(content: bytes) -> None:
    if as_json():
        print_json({"log": content.decode("utf-8", "replace")})
    else:
        _show()(content)


def _show() -> Callable[[bytes], None]:
    """Bytes come out as they are; on a terminal, without what it would obey."""
    from b2d.diagnostics import logs as kept

    if os.isatty(1):
        return lambda content: write(kept.strip_timestamps(content))
    return lambda content: write(content.decode("utf-8", "surrogateescape"))


def _follow_docker(machine: "Machine", lines: int | None) -> None:
    """Ends with the machine, as `docker logs -f` with its container."""
    from b2d.diagnostics import logs as kept
    from b2d.host.polling import wait_until
    from b2d.models import STARTED_STATES

    guest = machine.guest()
    broken: B2dError = InvalidStateError(f"the log of {machine.name} ended", hint="b2d status")
    try:
        guest.follow(f"exec tail -n {'+1' if lines is None else lines} -F {kept.DOCKER_LOG}", _show())
    except InvalidStateError as error:
        broken = error
    with suppress(WaitTimeoutError):
        wait_until(lambda: machine.state() not in STARTED_STATES, condition="its end", timeout_s=END_S)
        print_line(f"{machine.name} has ended, and its log with it")
        return
    raise broken


@click.command(cls=Command, example="b2d support")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
def support(file: str | None) -> None:
    """Gather what helps to find a fault in FILE, without secrets. Read it before you give it away.

    FILE is b2d-support-DATE.tar.gz where none is given.
    """
    from datetime import datetime
    from pathlib import Path

    from b2d.app import support_bundle as gathered
    from b2d.config import boot2docker_profile

    it, unread = _app_or_none()
    known = environment()
    path = Path(file or f"b2d-support-{datetime.now().astimezone():%Y%m%d-%H%M%S}.tar.gz").absolute()
    settings = [one for one in (it.home.config, it.home.config_draft, boot2docker_profile.path(known)) if one]
    with it.reporter.step("gathering"):
        parts = gathered.bundle_parts(it, known, unread.message if unread else "")
        names = gathered.write_bundle(path, parts, gathered.redactor(it, known, settings))
    print_line(f"in it, without secrets: {', '.join(names)}")
    print_line("look through it before you give it away")
    print_result({"path": path, "files": names}, str(path))


def _app_or_none() -> tuple["App", ConfigError | None]:
    """The app of this command line; where its settings cannot be read, that of none, and why."""
    from b2d.app import wiring
    from b2d.config import loader
    from b2d.config.settings import Settings

    try:
        return app(), None
    except ConfigError as error:
        origins = dict.fromkeys(Settings.__slots__, loader.DEFAULT)
        effective = loader.ResolvedSettings(Settings(), origins)
        return wiring.App(loader.home(environment()), effective, reporter()), error
