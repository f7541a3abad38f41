"""The line of each shell's start-up file, evaluated by the real shell; none of them is the login shell."""

import os
from pathlib import Path

import pytest

from b2d.host.process_identity import identify
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import DockerEnv
from b2d.paths import Home
from b2d.shell.export import EVALUATION
from tests.support.cli import B2D
from tests.support.fakes import a_spec
from tests.support.paths import ROOT
from tests.support.shells import RealShell

DOCKER = DockerEnv("tcp://127.0.59.103:2376", "/home/José Ångström/it's $HOME/certs")
MINE = {"DOCKER_HOST": "ssh://me@there", "NO_PROXY": "localhost,.corp", "HTTPS_PROXY": "http://proxy:3128"}
INIT, UNSET = "b2d shellinit -q", "b2d shellinit -q --unset"


@pytest.fixture
def known(tmp_path: Path, shell: RealShell) -> dict[str, str]:
    """Return the environment of a user whose machine runs: its process is this one."""
    store = MachineStore(Home(tmp_path))
    store.write(a_spec())
    process = identify(os.getpid())
    store.write_env("boot2docker-vm", RunningFacts("127.0.59.103", 2022, 2376, DOCKER, process))
    login = "/usr/bin/fish" if shell.family == "sh" else "/bin/bash"
    path = f"{Path(B2D).parent}:{shell.path}"
    return MINE | {"B2D_HOME": str(tmp_path), "SHELL": login, "PATH": path}


def differences(known: dict[str, str], environ: dict[str, str]) -> dict[str, str]:
    """Return the changed variables of docker and of proxies, without the shells' own."""
    names = [*DOCKER.variables(), "B2D_BEFORE", *MINE]
    return {name: environ.get(name, "") for name in names if environ.get(name) != known.get(name)}


def test_the_line_selects_the_machine_and_unset_restores_the_environment(
    shell: RealShell, known: dict[str, str]
) -> None:
    typed = [INIT, INIT, UNSET, UNSET]
    once, twice, undone, again = [
        differences(known, environ) for environ in shell.environments_after(map(shell.command_line, typed), known)
    ]
    assert once.pop("B2D_BEFORE")
    assert once == {**DOCKER.variables(), "NO_PROXY": "localhost,.corp,127.0.59.103"}
    assert {name: twice[name] for name in once} == once
    assert undone == again == {}


def test_the_line_changes_nothing_while_the_machine_is_stopped(shell: RealShell, known: dict[str, str]) -> None:
    MachineStore(Home(Path(known["B2D_HOME"]))).remove_env("boot2docker-vm")
    (environ,) = shell.environments_after([shell.command_line(INIT)], known)
    assert differences(known, environ) == {}


def test_the_shell_is_detected_behind_another_program(shell: RealShell, known: dict[str, str]) -> None:
    (environ,) = shell.environments_after([shell.command_line(f"timeout 60 {INIT}")], known)
    assert environ["DOCKER_CERT_PATH"] == DOCKER.cert_path


def test_shellinit_in_a_script_detects_its_interpreter(shell: RealShell, known: dict[str, str]) -> None:
    script = shell.folder / "fish"
    script.write_text(f'#!/usr/bin/env bash\neval "$({INIT})"\n/usr/bin/env -0 ENDS=here\n')
    script.chmod(0o755)
    inside, outside = shell.environments_after([str(script)], known)
    assert inside["DOCKER_CERT_PATH"] == DOCKER.cert_path
    assert differences(known, outside) == {}


def test_the_lines_are_documented() -> None:
    page = (ROOT / "docs" / "shells.md").read_text().replace("\\|", "|")
    assert [line for template in EVALUATION.values() if (line := template.format(INIT)) not in page] == []
