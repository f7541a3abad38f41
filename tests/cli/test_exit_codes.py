"""Rules for every verb, also future ones: the verbs are read from the command tree."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest

from b2d import errors
from b2d.cli.main import VERBS, Verbs
from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.host.process_identity import identify
from b2d.machine_store.store import MachineStore
from b2d.models import Endpoint
from tests.support.cli import B2D, Prompt, Result
from tests.support.fakes import a_spec
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
ARGUMENTS = {  # required arguments, and such that keep the verb from the network
    "set": ["memory=640"],
    "delete": ["--yes"],
    "screenshot": ["screen.png"],
    "support": ["support.tar.gz"],
    "config set": ["memory=640"],
    "config unset": ["memory"],
    "completion": ["bash"],
    "run": ["true"],
    "cp": [":/etc/hostname", "copied"],
    "disk grow": ["1000"],
    "snapshot create": ["before"],
    "snapshot restore": ["before"],
    "snapshot delete": ["before"],
    "iso build": ["--arch", "m68k"],
    "download": ["/nowhere.iso"],
}
TELLS_BY_ITS_CODE = ("status", "doctor")  # these print an answer with any exit code
CAPITALS = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def leaves() -> Iterator[str]:
    group = Verbs("b2d", example="")
    with click.Context(group) as context:
        for verb in VERBS:
            command = group.get_command(context, verb)
            yield from (f"{verb} {name}" for name in command.commands) if isinstance(command, click.Group) else [verb]


EVERY_VERB = list(leaves())


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    """Return the prompt of a user on a host without any hypervisor."""
    nothing = {"PATH": str(Path(B2D).parent), "VISUAL": "/bin/true", "B2D_DRIVER": "qemu"}
    return Prompt(tmp_path, nothing)


def reset_home(prompt: Prompt, home: str) -> None:
    """Prepare a home: empty, with a machine that is off, with a broken machine file, or with broken settings."""
    shutil.rmtree(prompt.home.root, ignore_errors=True)
    if home in ("off", "broken"):
        MachineStore(prompt.home).write(a_spec())
        prompt.home.machine("boot2docker-vm").disk_qcow2.write_bytes(b"QFI\xfb")
    if home == "broken":
        prompt.home.machine("boot2docker-vm").spec.write_text("{")
    if home == "misconfigured":
        prompt.home.root.mkdir()
        prompt.home.config.write_text("memry = 3\n")


def run_b2d(prompt: Prompt, home: str, verb: str, *options: str, **environment: str) -> Result:
    reset_home(prompt, home)
    return prompt.b2d(*verb.split(), *options, *ARGUMENTS.get(verb, []), **environment)


def check_document(result: Result, verb: str) -> None:
    """Assert that stdout is one JSON document of the documented shape."""
    document = json.loads(result.out)
    if "error" not in document:
        assert result.code == 0 or verb in TELLS_BY_ITS_CODE
        return
    assert list(document) == ["error"]
    assert list(document["error"]) == ["message", "hint", "exit_code"]
    assert document["error"]["exit_code"] == result.code != 0
    assert result.err.startswith(f"b2d: {document['error']['message']}\n") or "\nb2d: " in result.err


@pytest.mark.parametrize("home", ["nothing", "off", "broken", "misconfigured"])
@pytest.mark.parametrize("verb", EVERY_VERB)
def test_stdout_is_one_json_document_with_json(prompt: Prompt, verb: str, home: str) -> None:
    result = run_b2d(prompt, home, verb, "--json")
    check_document(result, verb)
    if verb in ("ssh", "run"):  # their JSON is another verb's
        assert result.code == 2
    reset_home(prompt, home)
    before = prompt.b2d("--json", *verb.split(), *ARGUMENTS.get(verb, []))
    assert (before.code, without_numbers(before.out)) == (result.code, without_numbers(result.out))


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_bugs_and_usage_errors_are_json_documents_too(prompt: Prompt, verb: str) -> None:
    broken = prompt.folder / "broken"
    broken.mkdir()
    for library in ("filelock", "shutil", "subprocess"):
        (broken / f"{library}.py").write_text("raise RuntimeError('it broke')")
    check_document(run_b2d(prompt, "off", verb, "--json", PYTHONPATH=str(broken)), verb)
    result = run_b2d(prompt, "off", verb, "--json", "--foo")
    assert result.code == 2
    check_document(result, verb)


def without_numbers(text: str) -> str:
    """Return the text without values that vary between runs: durations and free space."""
    return re.sub(r"[0-9.]+ (s|GiB free)\b", r"\1", text)


@pytest.mark.parametrize("home", ["nothing", "off"])
@pytest.mark.parametrize("verb", EVERY_VERB)
def test_stdout_is_the_same_with_verbose_or_quiet_and_there_is_no_traceback(
    prompt: Prompt, verb: str, home: str
) -> None:
    plain = run_b2d(prompt, home, verb)
    for option in ("-v", "-q"):
        result = run_b2d(prompt, home, verb, option)
        assert (result.code, without_numbers(result.out)) == (plain.code, without_numbers(plain.out))
        assert "Traceback" not in result.err


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_a_closed_stdout_ends_the_command_without_a_bug_report(prompt: Prompt, verb: str) -> None:
    reset_home(prompt, "off")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [B2D, "-q", *verb.split(), "--json", *ARGUMENTS.get(verb, [])]
        completed = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, env=prompt.full_environment(), check=False, cwd=prompt.folder
        )
    stderr = completed.stderr.decode().splitlines()
    assert completed.returncode != 0
    assert all(line.startswith(("b2d: ", "     try: ", "     more: ")) for line in stderr)
    assert not [line for line in stderr if "ipe" in line or "bug" in line]


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_a_full_disk_is_reported_in_one_sentence(prompt: Prompt, verb: str) -> None:
    reset_home(prompt, "off")
    with Path("/dev/full").open("wb") as full:
        command = [B2D, "-q", *verb.split(), "--json", *ARGUMENTS.get(verb, [])]
        completed = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env=prompt.full_environment(), check=False, cwd=prompt.folder
        )
    assert completed.returncode != 0
    assert completed.stderr.startswith(b"b2d: ")
    assert b"bug" not in completed.stderr


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_names_that_are_not_ascii_work_in_an_ascii_locale(prompt: Prompt, verb: str) -> None:
    folder = prompt.folder / "grüße 🐳"
    folder.mkdir()
    theirs = Prompt(folder, prompt.environment)
    plain, bare = run_b2d(theirs, "off", verb, "--json"), run_b2d(theirs, "off", verb, "--json", **CAPITALS)
    check_document(plain, verb)
    assert (bare.code, without_numbers(bare.out)) == (plain.code, without_numbers(plain.out))
    assert bare.err.isascii()


@pytest.mark.parametrize("verb", ["", "iso", "config", "disk", "snapshot", *EVERY_VERB])
def test_help_fits_80_and_20_columns_without_losing_words(prompt: Prompt, verb: str) -> None:
    wide = prompt.b2d(*verb.split(), "--help", COLUMNS="80")
    narrow = prompt.b2d(*verb.split(), "--help", COLUMNS="20")
    assert (wide.code, narrow.code, wide.err, narrow.err) == (0, 0, "", "")
    assert max(map(len, wide.out.splitlines())) <= 80
    assert max(map(len, narrow.out.splitlines())) <= 20
    assert "".join(narrow.out.split()) == "".join(wide.out.split())
    assert "Example:\n" in narrow.out


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_a_misspelled_option_gets_a_suggestion(prompt: Prompt, verb: str) -> None:
    for wrong, right in (("--verbos", "--verbose"), ("--stop-wiat", "--stop-wait")):
        result = run_b2d(prompt, "nothing", verb, wrong)
        assert result.code == 2
        assert result.err.splitlines()[0] == f"b2d: no such option '{wrong}': did you mean '{right}'?"


@pytest.mark.parametrize("verb", ["status", "stop", "list", "iso build", "config", "init"])
def test_a_deleted_current_folder_is_reported(prompt: Prompt, verb: str) -> None:
    result = prompt.run(
        ["/bin/sh", "-c", f"mkdir gone && cd gone && rmdir ../gone && {B2D} {verb}"], PATH="/bin", B2D_HOME="relative"
    )
    assert (result.code, result.out) == (1, "")
    assert result.err == "b2d: the current folder of this shell no longer exists\n     try: cd\n"


@pytest.mark.parametrize("fault", ["raise RuntimeError('it broke')", "this is not Python"])
def test_a_library_that_cannot_be_loaded_is_reported(prompt: Prompt, fault: str) -> None:
    (prompt.folder / "click.py").write_text(fault)
    result = prompt.b2d("list", PYTHONPATH=str(prompt.folder))
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith("b2d: a library cannot be loaded: ")


def test_every_verb_and_every_exit_code_is_documented() -> None:
    verbs, codes = ((DOCS / f"{page}.md").read_text() for page in ("commands", "exit-codes"))
    named = [verb.removesuffix(" get") for verb in EVERY_VERB]
    assert [verb for verb in named if not re.search(rf"`{verb}[ `]", verbs)] == []
    kinds = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.B2dError)]
    assert [kind for kind in kinds if f"\n| {kind.exit_code} |" not in codes] == []


class Docker(BaseHTTPRequestHandler):
    """A server that answers as Docker does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("API-Version", "1.44")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def running(prompt: Prompt) -> Iterator[Prompt]:
    """Yield the prompt of a user whose machine runs: its process sleeps, and its Docker has no TLS."""
    server = HTTPServer(("127.0.0.1", 0), Docker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    asleep = subprocess.Popen(["sleep", "600"])
    reset_home(prompt, "off")
    port = server.server_port
    MachineStore(prompt.home).write(a_spec(address="127.0.0.1", docker_port=port, tls=False))
    paths = prompt.home.machine("boot2docker-vm")
    paths.qemu_pid.write_text(str(asleep.pid))
    QemuProcess(paths).record(Launch(Endpoint("127.0.0.1", 2022, port), [], "", identify(asleep.pid)))
    yield prompt
    asleep.kill()
    asleep.wait()
    server.shutdown()
    server.server_close()


def test_up_prints_the_endpoint_as_json(running: Prompt) -> None:
    result = running.b2d("up", "--json")
    document = json.loads(result.out)
    assert (result.code, document["name"], document["address"]) == (0, "boot2docker-vm", "127.0.0.1")
    assert document["docker"]["host"] == f"tcp://127.0.0.1:{document['docker_port']}"
    assert without_numbers(result.err) == without_numbers(running.b2d("up").err)
    assert running.b2d("up").out == ""


def test_json_says_whether_something_was_changed(prompt: Prompt) -> None:
    for verb in ("init", "stop", "poweroff"):
        result = run_b2d(prompt, "off", verb, "--json")
        assert (result.code, json.loads(result.out)) == (0, {"name": "boot2docker-vm", "changed": False})
    result = run_b2d(prompt, "off", "delete", "--json")
    assert (result.code, json.loads(result.out)) == (0, {"name": "boot2docker-vm", "changed": True})
    result = run_b2d(prompt, "off", "config set", "--json")
    assert json.loads(result.out) == {"path": str(prompt.home.config), "keys": ["memory"]}
    assert json.loads(run_b2d(prompt, "off", "logs", "--json").out) == {"log": ""}


def test_a_log_is_printed_byte_by_byte(prompt: Prompt) -> None:
    reset_home(prompt, "off")
    prompt.home.machine("boot2docker-vm").serial_log.write_bytes(b"\xffa\r\n\x00z")
    completed = subprocess.run([B2D, "logs"], env=prompt.full_environment(LC_ALL="C"), capture_output=True, check=True)
    assert completed.stdout == b"\xffa\r\n\x00z"
    assert json.loads(prompt.b2d("logs", "--json").out) == {"log": "\ufffda\r\n\x00z"}
