"""Every verb is fed hostile text through all its inputs, and its output controls no terminal (case M8).

The verbs come from the command tree: a new one that is missing here fails.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from b2d.cli import main
from b2d.config import loader
from b2d.docker.published_ports import PublishedPort
from b2d.doctor.finding import warning
from b2d.errors import B2dError
from b2d.formats.iso9660 import Volume
from b2d.guest.transfer.copier import Copied
from b2d.host_agent.report import Refusal
from b2d.importing.candidates import ImportCandidate
from b2d.machine.exposure import Exposure, Severity
from b2d.machine.image_upgrade import UpgradeResult
from b2d.machine.lifecycle import Machine
from b2d.machine_store.store import MachineStore
from b2d.models import CommandResult, Image, Snapshot
from b2d.paths import Home
from b2d.reporting.base import Reporter
from tests.security.hostile import EVIL, LONG, SHOWN, Show, raising
from tests.support.fake_machine import Box, FakeServices
from tests.support.fakes import a_spec
from tests.unit.api.test_machine import BoxApp

MODES = [(), ("-v",), ("--json",), ("-q",)]
# verb: the commands to run in turn, in a home whose machine is on at first
TYPED: dict[str, tuple[tuple[str, ...], ...]] = {
    "up": (("up",), ("stop",)),
    "stop": (("stop",),),
    "save": (("save",),),
    "status": (("status",),),
    "ssh": (("ssh", "true"), ("ssh",)),
    "run": (("run", "--", EVIL),),
    "cp": (("cp", ":/x", "."), ("cp", EVIL, ":/x")),
    "shellinit": (("shellinit",), ("shellinit", "--shell", EVIL)),
    "ip": (("ip",),),
    "ports": (("ports",),),
    "init": (("delete", "--yes"), ("init",)),
    "restart": (("restart",),),
    "reset": (("reset",),),
    "poweroff": (("poweroff",),),
    "delete": (("delete",), ("delete", "--yes")),
    "set": (("set", f"share=/{EVIL}"), ("set", f"{EVIL}=1"), ("set", f"memory={EVIL}"), ("set", "memory=700")),
    "disk compact": (("disk", "compact"),),
    "disk grow": (("disk", "grow", EVIL), ("disk", "grow", "700")),
    "disk show": (("disk", "show"),),
    "snapshot create": (("snapshot", "create", "x"),),
    "snapshot delete": (("snapshot", "delete", "x"),),
    "snapshot list": (("snapshot", "list"),),
    "snapshot restore": (("snapshot", "restore", "x", "--yes"),),
    "upgrade": (("upgrade", "--yes"),),
    "rollback": (("rollback", "--yes"),),
    "info": (("info",),),
    "logs": (("logs",), ("logs", "--docker"), ("logs", "--hypervisor"), ("logs", "--b2d")),
    "screenshot": (("screenshot", EVIL),),
    "context": (("context",), ("context", "--use")),
    "ssh-config": (("ssh-config",), ("ssh-config", "--host", EVIL)),
    "autostart": (("autostart", "enable"), ("autostart", "disable"), ("autostart",)),
    "list": (("list",),),
    "import": (("import",), ("import", EVIL), ("import", EVIL, "--vm", "box")),
    "download": (("download",), ("download", "debian")),
    "iso build": (("iso", "build"),),
    "iso list": (("iso", "list"),),
    "config edit": (("config", "edit"),),
    "config get": (("config", "get"), ("config", "get", EVIL)),
    "config path": (("config", "path"),),
    "config set": (("config", "set", f"image={EVIL}"), ("config", "set", f"{EVIL}=1"), ("config", "set", "memory=700")),
    "config unset": (("config", "unset", EVIL), ("config", "unset", "memory")),
    "doctor": (("doctor",), ("doctor", "--fix")),
    "support": (("support",),),
    "completion": (("completion", "bash", "--", EVIL, "--vm", ""), ("completion", EVIL)),
    "version": (("version", EVIL), ("version",)),
}
# their output is numbers and b2d's own words: nothing foreign is in it unless they fail
OWN_WORDS = {"ip", "config path", "stop", "save", "poweroff", "disk show"}


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Return every command of the tree that acts, by its command line."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        subcommand = command.get_command(context, name)
        assert subcommand is not None
        yield from verbs(subcommand, (*path, name))


VERBS = sorted(verbs(main._create_group()))


def test_the_listed_verbs_are_those_of_the_command_tree() -> None:
    assert sorted(TYPED) == VERBS
    assert set(main.ALIASES.values()) <= {verb.partition(" ")[0] for verb in VERBS}


class HostileApp(BoxApp):
    """A home with hostile answers from everything that b2d asks."""

    def machine(self, name: str = "") -> Machine:
        services = FakeServices(self.box)
        services.reporter = self.reporter
        return Machine(name or "box", services)

    def check_network(self) -> None:
        self.reporter.warn(EVIL)


class Login:
    """A login item of a system with hostile answers."""

    where = EVIL

    def put(self) -> bool:
        return True

    def remove(self) -> bool:
        return True

    def is_on(self) -> bool:
        return True

    def remarks(self) -> list[str]:
        return [EVIL]


def an_image() -> Image:
    return Image("1" * 64, Path("/x") / EVIL, EVIL, EVIL, 1)


def built(_app: object, _architecture: str, output: Path, **_: object) -> str:
    output.write_bytes(b"")
    return EVIL


def answers() -> dict[str, Callable[..., object]]:
    """Return the functions that bring foreign text, with hostile answers."""
    snapshot = Snapshot(EVIL, 0, 1)
    image, refused = an_image(), (Refusal(EVIL, EVIL, EVIL),)
    original = ImportCandidate(EVIL, Path("/x") / EVIL, volume=Volume("Boot2Docker-v1.9.1", 1))
    values: dict[str, object] = {
        "b2d.app.inspect.ports": [PublishedPort(EVIL, EVIL, 80, EVIL, 80, EVIL)],
        "b2d.app.inspect.describe_machine": {EVIL: EVIL},
        "b2d.app.inspect.read_log": EVIL.replace("b2d: done", "done").encode(),  # a log has many lines
        "b2d.guest.transfer.copier.Copier.fetch": Copied(EVIL, 1),
        "b2d.guest.transfer.copier.Copier.send": Copied(EVIL, 1),
        "b2d.machine.snapshots.SnapshotCommands.all": [snapshot],
        "b2d.machine.snapshots.SnapshotCommands.create": snapshot,
        "b2d.machine.snapshots.SnapshotCommands.restore": snapshot,
        "b2d.machine.snapshots.SnapshotCommands.delete": snapshot,
        "b2d.machine.image_upgrade.ImageUpgrade.upgrade": UpgradeResult(image, True, EVIL),
        "b2d.machine.image_upgrade.ImageUpgrade.rollback": UpgradeResult(image, True, EVIL),
        "b2d.image.acquire.ImageAcquirer.update": (image, True, EVIL),
        "b2d.image.image_store.ImageStore.all": [image],
        "b2d.app.import_machine.find_candidates": [original],
        "b2d.app.import_machine.import_machine": True,
        "b2d.machine.lifecycle.Machine.exposures": [Exposure(EVIL, weight, EVIL) for weight in Severity],
        "b2d.host.autostart.items.login_item": Login(),
        "b2d.host_agent.control.wait_until_serving": refused,
        "b2d.host_agent.control.refusals": refused,
        "b2d.app.wiring.App.examination": SimpleNamespace(findings=lambda: iter([warning(EVIL, EVIL, EVIL, EVIL)])),
    }
    return {where: lambda *_, _value=value, **__: _value for where, value in values.items()}


@pytest.fixture
def hostile(home: Home, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Start a machine; only its own home and the command line are the user's."""
    box.create_machine().up()
    box.hypervisor.limitations = [EVIL]
    box.images.versions |= {"0" * 64: EVIL, "1" * 64: EVIL}
    box.add_newer_image()
    MachineStore(home).write(a_spec("other", driver=EVIL, source=EVIL))
    (home.machines / EVIL).mkdir()
    (box.paths.folder / EVIL).touch()
    result = CommandResult(1, EVIL.encode(), EVIL.encode())
    monkeypatch.setattr(box.guest, "run", lambda *_: result)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDITOR", EVIL)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: ""))
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    monkeypatch.setattr(os, "isatty", lambda _: True)
    for where, answer in answers().items():
        monkeypatch.setattr(where, answer)
    monkeypatch.setattr("b2d.image.acquire.ImageAcquirer.build_to", built)
    failing = raising(B2dError(EVIL, hint=EVIL, details=EVIL))
    monkeypatch.setattr("b2d.docker.context.DockerContext.put", failing)
    monkeypatch.setattr(box.guest, "shell", failing)
    monkeypatch.setattr(box.guest, "piped", failing, raising=False)

    def make(_environ: object, _flags: object, reporter: Reporter) -> HostileApp:
        settings = loader.load(box.home, {}, {"vm": "box", "image": EVIL})
        return HostileApp(box.home, settings, reporter, box)

    monkeypatch.setattr("b2d.app.wiring.make_app", make)
    return box


def with_options(typed: tuple[str, ...], verb: str, mode: tuple[str, ...]) -> list[str]:
    """Insert b2d's own options where they take effect: behind the verb, and before another program's command."""
    words = len(verb.split())
    return [*typed[:words], *mode, *typed[words:]] if typed[0] == verb.split(maxsplit=1)[0] else [*typed, *mode]


@pytest.mark.parametrize("verb", VERBS)
def test_hostile_text_in_the_output_of_a_verb_does_not_control_the_terminal(
    show: Show, hostile: Box, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    if verb == "config get":  # settings for programs are passed unchanged
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = ""
    for mode in MODES:
        for typed in TYPED[verb]:
            _, out, err = show(*with_options(typed, verb, mode))
            shown += out + err
    assert (SHOWN in shown) == (verb not in OWN_WORDS), shown
    assert "this is a bug" not in shown


@pytest.mark.parametrize("text", [EVIL, LONG], ids=["evil", "long"])
@pytest.mark.parametrize("verb", VERBS)
def test_hostile_text_in_an_error_does_not_control_the_terminal(
    show: Show, home: Home, monkeypatch: pytest.MonkeyPatch, verb: str, text: str
) -> None:
    monkeypatch.setenv("VISUAL", "true")  # not this host's editor
    for error in (B2dError(text, hint=text, details=text), RuntimeError(text), OSError(5, text, text)):
        monkeypatch.setattr("b2d.app.wiring.make_app", raising(error))
        for mode in MODES if text == EVIL else MODES[:1]:
            _, _, err = show(*with_options(TYPED[verb][-1], verb, mode))
            assert "-v" in mode or len(err.splitlines()) <= 4
