"""The fast path: shellinit and ip without imports, only while the very process runs that `up` recorded.

A plain status without click; every other command line goes to click.
"""

import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.guest import tls_certificates
from b2d.host.process_identity import identify
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import DockerEnv, Endpoint, ProcessIdentity
from b2d.paths import Home
from tests.integration.config.test_boot2docker_profile import UNASKED
from tests.support.cli import B2D
from tests.support.fakes import a_spec
from tests.support.paths import ROOT

HEAVY = {"click", "json", "re", "subprocess", "pathlib", "dataclasses", "enum", "typing", "contextlib", "shutil"}
LINE = "export DOCKER_HOST=tcp://127.0.59.103:2376 DOCKER_CERT_PATH=/certs DOCKER_TLS_VERIFY=1"
LINE += " B2D_BEFORE=tcp://127.0.59.103:2376,,,,\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a home with a machine whose process is this one, so that it runs."""
    new_home = Home(tmp_path)
    store = MachineStore(new_home)
    store.write(a_spec())
    keep(new_home, identify(os.getpid()))
    return new_home


def keep(home: Home, process: ProcessIdentity | None) -> None:
    docker = DockerEnv("tcp://127.0.59.103:2376", "/certs")
    MachineStore(home).write_env("boot2docker-vm", RunningFacts("127.0.59.103", 2022, 2376, docker, process))


def run(home: Home, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run b2d from a shell other than the one that runs the tests."""
    known = {"PATH": os.environ["PATH"], "B2D_HOME": str(home.root)}
    command = ["sh", "-c", '"$@"; exit', "sh", sys.executable, "-m", "b2d", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=known | environment)


def test_the_output_is_the_endpoint_recorded_by_up(home: Home) -> None:
    assert run(home, "shellinit").stdout == LINE
    assert run(home, "env").stdout == LINE
    assert run(home, "ip").stdout == "127.0.59.103\n"


@pytest.mark.parametrize(
    ("program", "redirected", "shown"),
    [
        ("boot2docker", "", "The VM's IP address on this host is: 127.0.59.103\r\n"),
        ("b2d", "", "127.0.59.103\r\n"),
        ("boot2docker", " | cat", "127.0.59.103\r\n"),
    ],
)
def test_a_sentence_is_before_the_address_on_a_terminal(home: Home, program: str, redirected: str, shown: str) -> None:
    leader, follower = pty.openpty()
    script = f"{Path(B2D).with_name(program)} ip{redirected}; exit"
    environment = {"PATH": os.environ["PATH"], "B2D_HOME": str(home.root)}
    subprocess.run(["sh", "-c", script], stdout=follower, stderr=follower, check=True, env=environment)
    assert os.read(leader, 1000).decode() == shown
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize("verb", ["shellinit", "ip"])
@pytest.mark.parametrize("config_text", [None, "memory = 4096\n"])
def test_no_slow_library_is_imported_for_them(home: Home, verb: str, config_text: str | None) -> None:
    if config_text:
        home.config.write_text(config_text)
    script = (
        "import sys, os; before = set(sys.modules); sys.argv = ['b2d', sys.argv[1]]\n"
        "os._exit = lambda code: (print(*(set(sys.modules) - before), file=sys.stderr), sys.exit(code))\n"
        "from b2d.__main__ import main; main()"
    )
    completed = subprocess.run(
        [sys.executable, "-S", "-c", script, verb],
        capture_output=True,
        text=True,
        check=True,
        env={"B2D_HOME": str(home.root), "PYTHONPATH": str(ROOT)},
    )
    loaded = set(completed.stderr.split())
    assert loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("order", [("--vm", "boot2docker-vm", "ip"), ("ip", "--vm=boot2docker-vm")])
def test_the_machine_may_be_named_before_and_after_the_verb(home: Home, order: tuple[str, ...]) -> None:
    assert run(home, *order).stdout == "127.0.59.103\n"
    assert run(home, "ip", B2D_VM="other").returncode == 3


@pytest.mark.parametrize("verb", ["shellinit", "ip"])
@pytest.mark.parametrize("field", ["pid", "start_time", "boot_id"])
def test_a_machine_that_has_ended_has_no_endpoint(home: Home, verb: str, field: str) -> None:
    identity = identify(os.getpid())
    assert identity is not None
    values = {"pid": identity.pid, "start_time": identity.start_time, "boot_id": identity.boot_id}
    values[field] = 2**22 if field == "pid" else "other"
    keep(home, ProcessIdentity(**values))  # type: ignore[arg-type]
    completed = run(home, verb)
    assert completed.stdout == ""
    assert completed.returncode in (3, 4)
    assert completed.stderr.startswith("b2d: ")


@pytest.fixture
def no_click(tmp_path: Path) -> str:
    """Return a folder for PYTHONPATH that hides click."""
    folder = tmp_path / "no click"
    folder.mkdir()
    (folder / "click.py").write_text("raise ImportError('no click')")
    return str(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"memory = 4096  # vm\ncpus = 2\n",
        b"\xef\xbb\xbf# vm = 'a'\r\n\r\nvboxapi = 'vm'\r\n",
        b'# the defaults\n# vm = "boot2docker-vm"\n',
        b'vm = "boot2docker-vm"\n',
    ],
)
@pytest.mark.parametrize("file", ["config.toml", "profile"])
def test_a_file_without_a_machine_name_needs_no_click(home: Home, no_click: str, file: str, content: bytes) -> None:
    (home.root / file).write_bytes(content)
    known = {"PYTHONPATH": no_click, "BOOT2DOCKER_DIR": str(home.root)}
    assert run(home, "shellinit", **known).stdout == LINE
    assert run(home, "ip", **known).stdout == "127.0.59.103\n"


def test_the_default_profile_of_boot2docker_needs_no_click(home: Home, no_click: str) -> None:
    folder = home.root / ".boot2docker"
    folder.mkdir()
    (folder / "profile").write_text(UNASKED.format(folder))
    assert run(home, "ip", PYTHONPATH=no_click, HOME=str(home.root)).stdout == "127.0.59.103\n"


NAMING = [
    'memory = 1024\nvm = "other"',
    "\ufeff  \t\"vm\"='other'\r\n",
    "'vm' = \"other\"  # mine",
    '"\\u0076m" = "other"',
    'vm = "boot2docker-vm2"',
    'vm = """\nother"""',
]


@pytest.mark.parametrize("text", NAMING)
@pytest.mark.parametrize("file", ["config.toml", "profile"])
def test_the_machine_named_in_a_file_is_used(home: Home, no_click: str, file: str, text: str) -> None:
    (home.root / file).write_text(text)
    known = {"BOOT2DOCKER_PROFILE": str(home.root / "profile")}
    completed = run(home, "ip", **known)
    assert (completed.returncode, completed.stdout) == (3, "")
    assert run(home, "ip", "--vm=boot2docker-vm", PYTHONPATH=no_click, **known).stdout == "127.0.59.103\n"
    assert run(home, "ip", PYTHONPATH=no_click, B2D_VM="boot2docker-vm", **known).stdout == "127.0.59.103\n"


@pytest.mark.parametrize("text", ['VM = "other"', 'Init=false\nvM="other"', '"V-M" = "other"', '_v_m = "other"'])
def test_the_profile_names_the_machine_in_any_case_and_applies_without_config_toml(home: Home, text: str) -> None:
    mine = home.root / ".boot2docker"
    mine.mkdir()
    (mine / "profile").write_text(text)
    assert run(home, "ip", HOME=str(home.root)).returncode == 3
    assert run(home, "ip", HOME="", USERPROFILE=str(home.root)).returncode == 3
    home.config.touch()
    assert run(home, "ip", HOME=str(home.root)).stdout == "127.0.59.103\n"


@pytest.mark.parametrize("content", [b"vm = other\n", b"[vm]\n", b'VM = "a"\n', b"memory = 1024 # \xff\n", None])
def test_a_file_that_cannot_be_read_is_reported_by_click(home: Home, content: bytes | None) -> None:
    if content is None:
        home.config.mkdir()
    else:
        home.config.write_bytes(content)
    completed = run(home, "ip")
    assert (completed.returncode, completed.stdout) == (2, "")
    assert str(home.config) in completed.stderr


def test_a_settings_file_that_is_too_long_is_read_by_click(home: Home) -> None:
    home.config.write_text("# long\n" * 20_000 + 'vm = "other"\n')
    assert run(home, "ip").returncode == 3


def test_a_tilde_in_the_home_is_the_home_directory(home: Home, no_click: str) -> None:
    home.root.joinpath("b2d").symlink_to(home.root)
    assert run(home, "ip", PYTHONPATH=no_click, HOME=str(home.root), B2D_HOME="~/b2d").stdout == "127.0.59.103\n"
    assert run(home, "shellinit", "-q", B2D_HOME="~nobody-has-this-name/b2d").returncode == 2


def test_the_output_is_in_the_syntax_of_the_requested_shell(home: Home) -> None:
    assert run(home, "shellinit", "--shell", "fish").stdout.startswith("set -gx DOCKER_HOST")
    assert run(home, "shellinit", "--shell=nushell").stdout.startswith('{"DOCKER_HOST": ')
    assert run(home, "shellinit", "--shell", "abacus").returncode == 2


def boot(home: Home) -> None:
    """Record a running QEMU machine whose process is this one."""
    paths = home.machine("boot2docker-vm")
    paths.qemu_pid.write_text(str(os.getpid()))
    QemuProcess(paths).record(Launch(Endpoint("127.0.59.103", 2022, 2376), [], "", identify(os.getpid())))


def test_a_plain_status_prints_the_state_and_needs_no_click(home: Home, no_click: str) -> None:
    def status() -> tuple[str, int, str]:
        completed = run(home, "status", PYTHONPATH=no_click)
        return completed.stdout, completed.returncode, completed.stderr

    # before the first case: `env` names a live process, so each of these may start the agent, which serves that machine
    tls_certificates.ensure_certificates(home.machine("boot2docker-vm"), ["127.0.59.103"], datetime.now(UTC))
    assert status() == ("absent\n", 3, "")
    home.machine("boot2docker-vm").disk_qcow2.touch()
    assert status() == ("stopped\n", 4, "")
    boot(home)
    assert status() == ("running\n", 0, "")


@pytest.mark.parametrize("order", [("--vm", "other", "status"), ("status", "--vm=other"), ("status",)])
def test_status_is_that_of_the_named_machine(home: Home, no_click: str, order: tuple[str, ...]) -> None:
    home.machine("boot2docker-vm").disk_qcow2.touch()
    assert run(home, *order, PYTHONPATH=no_click, B2D_VM="other").stdout == "absent\n"
    assert run(home, "status", "--vm", "boot2docker-vm", PYTHONPATH=no_click, B2D_VM="other").stdout == "stopped\n"
    home.config.write_text('vm = "other"\n')
    assert run(home, *order, PYTHONPATH=no_click).stdout == "absent\n"


@pytest.mark.parametrize(
    "typed",
    [
        "status --json",
        "-q status",
        "status -v",
        "status --driver qemu",
        "status --vm=",
        "status --shell sh",
        "status now",
        "status status",
        "status --help",
        "--vm ../x status",
    ],
)
def test_other_options_of_status_need_click(home: Home, no_click: str, typed: str) -> None:
    assert "no click" in run(home, *typed.split(), PYTHONPATH=no_click).stderr
    assert "Traceback" not in run(home, *typed.split()).stderr


def test_an_error_is_reported_by_click(home: Home, no_click: str) -> None:
    spec = home.machine("boot2docker-vm").spec
    spec.write_text("{")
    assert "no click" in run(home, "status", PYTHONPATH=no_click).stderr
    completed = run(home, "status")
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr.startswith(f"b2d: {spec} is not JSON: ")
    assert completed.stderr.splitlines()[1:] == ["     try: b2d up"]


def test_a_bug_is_reported_by_click_and_logged_once(home: Home, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('it broke')")
    completed = run(home, "status", PYTHONPATH=str(tmp_path))
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr.startswith("b2d: this is a bug in b2d")
    assert home.log.read_text().count("Traceback") == 1


def test_unset_needs_no_machine(home: Home) -> None:
    MachineStore(home).remove_env("boot2docker-vm")
    undone = run(home, "shellinit", "-q", "--unset", B2D_BEFORE="tcp://127.0.59.103:2376,there,,,")
    assert undone.stdout.startswith("export DOCKER_HOST=there DOCKER_CERT_PATH= ")
    nothing = run(home, "shellinit", "--unset")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == "b2d: there is nothing to undo: this shell has not evaluated shellinit\n"
    assert run(home, "shellinit", "--unset", "--quiet").stderr == ""


@pytest.mark.parametrize("state", [3, 4])
def test_shellinit_prints_one_line_at_most_for_a_stopped_machine(home: Home, state: int) -> None:
    keep(home, None)
    if state == 4:
        home.machine("boot2docker-vm").disk_qcow2.write_bytes(b"QFI\xfb")
    verbose, quiet = run(home, "shellinit"), run(home, "shellinit", "--quiet")
    assert (verbose.returncode, verbose.stdout, verbose.stderr.count("\n")) == (state, "", 1)
    assert verbose.stderr.startswith("b2d: ")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (state, "", "")


def test_shellinit_with_quiet_needs_no_click(home: Home, no_click: str) -> None:
    MachineStore(home).remove_env("boot2docker-vm")
    assert run(home, "shellinit", "-q", PYTHONPATH=no_click).returncode == 4
    assert run(home, "shellinit", "--quiet", "--vm=other", PYTHONPATH=no_click).returncode == 3
    assert run(home, "shellinit", "-q", "--json", "--vm=other").stdout.startswith("{")


def test_json_is_a_document_of_all_changed_variables(home: Home) -> None:
    known = json.loads(run(home, "shellinit", "--json").stdout)
    assert known["DOCKER_CERT_PATH"] == "/certs"
    undone = run(home, "shellinit", "--unset", "--json", B2D_BEFORE=known["B2D_BEFORE"])
    assert json.loads(undone.stdout) == dict.fromkeys(known)
    assert json.loads(run(home, "shellinit", "--unset", "--json").stdout) == {}
