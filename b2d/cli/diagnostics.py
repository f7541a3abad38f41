"""The troubleshooting commands: doctor, logs and support.

Modules that only some of them need are imported inside the functions.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from b2d.cli.base import (
    Command,
    check_writable_home,
    create_app,
    create_reporter,
    get_environment,
    is_json,
    machine_command,
    print_json,
    print_line,
    print_result,
    write,
)
from b2d.errors import B2dError, ConfigError, HypervisorError, InvalidStateError, WaitTimeoutError
from b2d.machine_names import command_for

if TYPE_CHECKING:
    from b2d.app.wiring import App
    from b2d.machine.lifecycle import Machine

END_S = 5.0  # for a machine whose connection broke to be seen ending


@click.command(cls=Command, read_only=True, example="b2d doctor --fix")
@click.option("--fix", is_flag=True, help="Install missing programs, tighten permissions, remove leftovers.")
def doctor(fix: bool) -> int:
    """Check this host and its machines for problems."""
    from dataclasses import asdict

    from b2d.doctor.finding import Verdict

    if fix:
        check_writable_home()
    app, config_error = _create_app_or_defaults()
    findings = list(app.examination(config_error).findings())
    if fix:
        from b2d.doctor import fixes
        from b2d.host.package_managers import Installer

        cleaner = fixes.Cleaner(app.home, lambda spec: app.driver(spec).state(), app.images.remove, app.reporter)
        cleaner.clean(findings)
        fixes.apply_fixes(findings, app.home, Installer(), app.reporter)
        findings = list(app.examination(config_error).findings())
    print_result([asdict(finding) for finding in findings], "\n".join(finding.line for finding in findings))
    names = [finding.name for finding in findings if finding.verdict is Verdict.BAD]
    error = config_error or HypervisorError(
        f"b2d cannot work on this host: {', '.join(names)}", hint="b2d doctor --fix"
    )
    if names and not is_json():
        raise error
    return error.exit_code if names else 0  # in JSON the findings are the message


@click.command(cls=Command, example="b2d logs --docker -f")
@click.option("--docker", "source", flag_value="docker", help="Print the Docker engine's log.")
@click.option("--hypervisor", "source", flag_value="hypervisor", help="Print the log of QEMU or VirtualBox.")
@click.option("--b2d", "source", flag_value="b2d", help="Print b2d's own log of unexpected errors.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until Ctrl-C.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="Print the last N lines only.")
def logs(source: str | None, follow: bool, tail: int | None) -> None:
    """Print the console log since the machine's start, or another log."""
    from b2d.app import inspect
    from b2d.diagnostics import logs as log_files
    from b2d.guest.ssh.streams import is_without_reader

    if follow and is_json():
        raise ConfigError("--follow cannot print JSON: the document would not end", hint=machine_command("logs --json"))
    app = create_app()
    if source == "docker" and follow:
        _follow_docker(app.machine(), tail)
    elif follow:
        log_files.follow(inspect.log_file(app, source or "console"), tail, _writer(), lambda: is_without_reader(1))
    else:
        _print_log(inspect.read_log(app, source or "console", tail))


def _print_log(content: bytes) -> None:
    if is_json():
        print_json({"log": content.decode("utf-8", "replace")})
    else:
        _writer()(content)


def _writer() -> Callable[[bytes], None]:
    """Return a function that writes bytes to stdout: unchanged, or to a terminal without control characters."""
    from b2d.diagnostics import logs as log_files

    if os.isatty(1):
        return lambda content: write(log_files.printable_text(content))
    return lambda content: write(content.decode("utf-8", "surrogateescape"))


def _follow_docker(machine: "Machine", lines: int | None) -> None:
    """Follow the Docker engine's log until the machine ends, as `docker logs -f` does with a container."""
    from b2d.diagnostics import logs as log_files
    from b2d.host.polling import wait_until
    from b2d.models import STARTED_STATES

    guest = machine.guest()
    failure: B2dError = InvalidStateError(f"the log of {machine.name} ended", hint=command_for("status", machine.name))
    try:
        guest.follow(log_files.tail_docker_log(f"-n {'+1' if lines is None else lines} -F"), _writer())
    except InvalidStateError as error:
        failure = error
    with suppress(WaitTimeoutError):
        wait_until(lambda: machine.state() not in STARTED_STATES, condition="its end", timeout_s=END_S)
        print_line(f"{machine.name} has ended, and so has its log")
        return
    raise failure


@click.command(cls=Command, example="b2d support")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
def support(file: str | None) -> None:
    """Write a diagnostics archive without secrets to FILE.

    FILE is b2d-support-DATE.tar.gz by default. Read the archive before you share it.
    """
    from datetime import datetime
    from pathlib import Path

    from b2d.app import support_bundle
    from b2d.config import boot2docker_profile

    app, config_error = _create_app_or_defaults()
    environment = get_environment()
    path = Path(file or f"b2d-support-{datetime.now().astimezone():%Y%m%d-%H%M%S}.tar.gz").absolute()
    candidates = (app.home.config, app.home.config_draft, boot2docker_profile.profile_path(environment))
    settings_files = [path for path in candidates if path]
    with app.reporter.step("collect diagnostics"):
        parts = support_bundle.bundle_parts(app, environment, config_error.message if config_error else "")
        redactor = support_bundle.redactor(app, environment, settings_files)
        names = support_bundle.write_bundle(path, parts, redactor)
    print_line(f"the archive contains, without secrets: {', '.join(names)}")
    print_line("read it before you share it")
    print_result({"path": path, "files": names}, str(path))


def _create_app_or_defaults() -> tuple["App", ConfigError | None]:
    """Create the app of this command line; with unreadable settings, that of the defaults, and the error."""
    from b2d.app import wiring
    from b2d.config import loader
    from b2d.config.settings import Settings

    try:
        return create_app(), None
    except ConfigError as error:
        origins = dict.fromkeys(Settings._fields, loader.DEFAULT)
        effective = loader.ResolvedSettings(Settings(), origins, [])
        return wiring.App(loader.resolve_home(get_environment()), effective, create_reporter()), error
