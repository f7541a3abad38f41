"""The pytest fixtures: one machine for a session, however many processes it has, in the requested state at the end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

# a machine that records the calls; its state is in a file, as the processes share it
CONFTEST = """
import os, time
from pathlib import Path
import b2d

STATE, DONE = Path({folder!r}, "state"), Path({folder!r}, "done")

class Fake:
    def __init__(self, name):
        self.name = name
    def _do(self, verb, state):
        STATE.write_text(state)
        with DONE.open("a") as file:
            file.write(f"{{verb}} {{self.name}}\\n")
    def state(self):
        return STATE.read_text()
    def up(self):
        if self.state() != "running":
            time.sleep({takes_s})
            self._do("up", "running")
    def delete(self):
        self._do("delete", "absent")
    def put_back(self, before):
        self._do("put back", before)
    def docker_env(self):
        return {{"DOCKER_HOST": "tcp://127.0.59.103:2375"}}

b2d.Machine = Fake
"""
TESTS = """
import os, pytest
@pytest.mark.parametrize("number", range(6))
def test_a_docker_is_there(docker_host, b2d_machine, number):
    assert b2d_machine.state() == "running"
    assert os.environ["DOCKER_HOST"] == docker_host == "tcp://127.0.59.103:2375"
    assert "DOCKER_CERT_PATH" not in os.environ and "DOCKER_CONTEXT" not in os.environ
"""


class Project:
    """A project with tests, and a machine in the given state."""

    def __init__(self, pytester: pytest.Pytester, folder: Path) -> None:
        self.pytester = pytester
        self.folder = folder
        self.has_machines(takes_s=0)
        pytester.makepyfile(TESTS)
        self.was("absent")

    def has_machines(self, takes_s: float) -> None:
        self.pytester.makeconftest(CONFTEST.format(folder=str(self.folder), takes_s=takes_s))

    def was(self, state: str) -> None:
        (self.folder / "state").write_text(state)

    def run_pytest(self, *options: str, passed: int = 6) -> list[str]:
        """Run its tests and return the calls on the machine."""
        (self.folder / "done").write_text("")
        self.pytester.runpytest_subprocess(*options).assert_outcomes(passed=passed)
        return (self.folder / "done").read_text().splitlines()


@pytest.fixture
def project(pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("DOCKER_CONTEXT", "of-this-person")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/of/this/person")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return Project(pytester, tmp_path)


def test_the_machine_is_started_once_per_session_and_restored_afterwards(project: Project) -> None:
    assert project.run_pytest() == ["up pytest", "put back pytest"]
    project.was("running")
    assert project.run_pytest() == ["put back pytest"]


def test_options_select_the_machine_and_its_state_afterwards(project: Project) -> None:
    assert project.run_pytest("--b2d-machine", "ci", "--b2d-after=keep") == ["up ci"]
    project.was("absent")
    assert project.run_pytest("--b2d-after", "delete") == ["up pytest", "delete pytest"]
    project.was("stopped")  # a user's machine, with data
    assert project.run_pytest("--b2d-after", "delete") == ["up pytest", "put back pytest"]


def test_the_project_configures_it_and_options_win(project: Project) -> None:
    project.pytester.makeini("[pytest]\nb2d_machine = ours\nb2d_after = keep\n")
    assert project.run_pytest() == ["up ours"]
    project.was("absent")
    assert project.run_pytest("--b2d-machine", "other", "--b2d-after=as-before") == ["up other", "put back other"]
    project.pytester.makeini("[pytest]\nb2d_after = burn\n")
    result = project.pytester.runpytest_subprocess()
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*b2d_after is 'burn', not one of as-before, keep, delete*"])


def test_worker_processes_share_the_machine_and_the_last_one_restores_it(project: Project) -> None:
    project.has_machines(takes_s=4)
    assert project.run_pytest("-n", "3", "--dist", "load") == ["up pytest", "put back pytest"]


def test_a_session_without_the_fixture_imports_no_b2d_modules(project: Project) -> None:
    project.pytester.makepyfile(
        """
        import sys
        def test_alone():
            assert not {"b2d.api.machine", "b2d.app.wiring", "b2d.config.loader"} & set(sys.modules)
        """
    )
    project.pytester.makeconftest("")
    assert project.run_pytest(passed=1) == []


def test_b2d_does_not_need_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; from b2d import Machine; Machine('x', home='/nowhere')"
    known = {"PATH": os.environ["PATH"], "HOME": "/nowhere"}
    assert subprocess.run([sys.executable, "-c", code], env=known, check=False).returncode == 0
