"""TAB completion in real shells."""

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from b2d.cli.completion_values import SHELLS, join_words
from b2d.machine_store.store import MachineStore
from tests.support.cli import B2D, Prompt
from tests.support.fakes import a_spec

LIMIT_S = 60
SHOWS = f"""#!/bin/sh
[ "$1 $3" = "completion --" ] && exec {B2D} "$@"
printf 'GOT'; printf '[%s]' "$@"; echo .
"""
START = {
    "bash": ["bash", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
EVALUATE = {"bash": 'eval "$({})"', "zsh": 'eval "$({})"', "fish": "{} | source"}


@dataclass
class Terminal:
    """A shell on a pseudo-terminal, where b2d completes as usual and otherwise prints its arguments."""

    leader: int
    output: str = ""

    def send(self, keys: str) -> None:
        os.write(self.leader, keys.encode())

    def read_until(self, wanted: str) -> str:
        """Return all output before `wanted`."""
        end = time.monotonic() + LIMIT_S
        while wanted not in self.output:
            ready, _, _ = select.select([self.leader], [], [], max(0, end - time.monotonic()))
            assert ready, self.output
            self.output += os.read(self.leader, 65536).decode(errors="replace")
        before, _, self.output = self.output.partition(wanted)
        return before


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Prompt:
    """Return the prompt of a user with three machines and a file."""
    person = Prompt(tmp_path_factory.mktemp("person"))
    for name in ("devel", "test-1", "test-2"):
        MachineStore(person.home).write(a_spec(name))
    (person.home.machines / "$(touch x)").mkdir()
    (person.folder / "an image.iso").touch()
    return person


@pytest.fixture(scope="module")
def terminal(shell: str, prompt: Prompt) -> Iterator[Terminal]:
    programs = prompt.folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("b2d", "boot2docker"):
        (programs / name).write_text(SHOWS)
        (programs / name).chmod(0o755)
    leader, follower = pty.openpty()
    known = prompt.full_environment(
        PATH=f"{programs}:{os.environ['PATH']}", TERM="dumb", PS1="> ", ZDOTDIR=str(prompt.folder)
    )
    command = ["setsid", "--ctty", *START[shell]]  # fish needs a real terminal
    child = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=known, cwd=prompt.folder)
    os.close(follower)
    shell_terminal = Terminal(leader)
    shell_terminal.send(EVALUATE[shell].format(f"{B2D} completion {shell}") + "; echo REA''DY\n")
    shell_terminal.read_until("READY")
    yield shell_terminal
    child.kill()
    child.wait()
    os.close(leader)


@pytest.mark.parametrize(
    ("typed", "became"),
    [
        ("b2d vers\t", "[version]"),
        ("b2d boo\t", "[boot]"),
        ("boot2docker shelli\t", "[shellinit]"),
        ("b2d iso li\t", "[iso][list]"),
        ("b2d up --mem\t 640", "[up][--memory][640]"),
        ("b2d --verb\tstop", "[--verbose][stop]"),
        ("b2d up --stop\t5", "[up][--stop-wait][5]"),
        ("b2d --vm de\tstatus", "[--vm][devel][status]"),
        ("b2d --vm=de\tstatus", "[--vm=devel][status]"),
        ("b2d stop --driver vi\t", "[stop][--driver][virtualbox]"),
        ("b2d config set ssh_pa\tyes", "[config][set][ssh_password=yes]"),
        ("b2d config set driver=qe\tcpus=2", "[config][set][driver=qemu][cpus=2]"),
        ("b2d config set accelerator=k\tme\t9", "[config][set][accelerator=kvm][memory=9]"),
        ("b2d config get mem\t", "[config][get][memory]"),
        ("b2d config mem\t", "[config][memory]"),
        ("b2d set dis\t9000", "[set][disk=9000]"),
        ("b2d shellinit --shell fi\t", "[shellinit][--shell][fish]"),
        ("b2d download an\t", "[download][an image.iso]"),
        ("b2d download deb\t", "[download][debian]"),
        ("b2d screenshot an\t", "[screenshot][an image.iso]"),
        ("b2d completion z\t", "[completion][zsh]"),
        ("b2d stop an\t", "[stop][an]"),
        ("b2d frobnicate x\t", "[frobnicate][x]"),
    ],
)
def test_tab_completes(terminal: Terminal, typed: str, became: str) -> None:
    terminal.send(f"{typed}\n")
    terminal.read_until("GOT")
    assert terminal.read_until(".\r") == became


def completions(prompt: Prompt, *words: str, shell: str = "fish", **more: str) -> list[str]:
    result = prompt.b2d("completion", shell, "--", *words, **more)
    assert (result.code, result.err) == (0, "")
    return [line.split("\t")[0] for line in result.out.splitlines()]


def test_completions_are_the_valid_words(prompt: Prompt) -> None:
    assert completions(prompt, "--vm", "") == ["devel", "test-1", "test-2"]
    assert completions(prompt, "status", "--vm", "te") == ["test-1", "test-2"]
    assert completions(prompt, "--dir", "/nowhere", "--vm", "") == []
    assert completions(prompt, "set", "") == ["memory=", "cpus=", "disk=", "ssh_port=", "docker_port=", "share="]
    assert completions(prompt, "config", "set", "tls=") == ["tls=yes", "tls=no"]
    assert completions(prompt, "download", "") == ["debian", "boot2docker", ":files"]
    assert "up" in completions(prompt, "help", "")
    assert {"get", "set", "edit", "memory"} <= {*completions(prompt, "config", "")}
    assert completions(prompt, "ssh", "ls", "") == []
    assert completions(prompt, "--json", "status", "--json", "--verb") == ["--verbose"]
    assert completions(prompt, "up", "--memory", "") == []


@pytest.mark.parametrize("words", [("frobnicate", ""), ("iso", "frob", ""), ("up", "--memory", "x", "--vm", "x")])
def test_invalid_command_lines_have_no_completions(prompt: Prompt, words: tuple[str, ...]) -> None:
    assert completions(prompt, *words) == []


def test_completion_works_with_a_broken_home(prompt: Prompt) -> None:
    prompt.home.config.write_text("memry = = 3")
    assert completions(prompt, "--vm", "de") == ["devel"]
    prompt.home.config.unlink()
    assert completions(prompt, "--vm", "", B2D_HOME="~nobody-of-that-name/x") == []
    assert completions(prompt, "vers", B2D_HOME="/proc/1/mem") == ["version"]


@pytest.mark.parametrize(
    ("cut", "joined", "left"),
    [
        (["set", "driver", "=", "q"], ["set", "driver=q"], "driver="),
        (["set", "driver", "="], ["set", "driver="], "driver="),
        (["set", "a", "=", "1", "b"], ["set", "a=1", "b"], ""),
        (["set", "a=1"], ["set", "a=1"], ""),
        (["--vm", "=", "x", "up", ""], ["--vm=x", "up", ""], ""),
        ([""], [""], ""),
    ],
)
def test_words_that_bash_split_are_joined(cut: list[str], joined: list[str], left: str) -> None:
    assert join_words(cut) == (joined, left)


def test_the_script_is_printed_and_an_unsupported_shell_is_reported(prompt: Prompt) -> None:
    result = prompt.b2d("completion", "bash", "--json", "--", "config", "me")
    assert json.loads(result.out) == {"memory": ""}
    for name in SHELLS:
        result = prompt.b2d("completion", name)
        assert (result.code, result.err) == (0, "")
        assert "boot2docker" in result.out
    result = prompt.b2d("completion", "tcsh")
    assert (result.code, result.out) == (2, "")
    assert "'bash', 'zsh', 'fish'" in result.err
