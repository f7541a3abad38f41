"""Files that a crash, a power cut or a reboot leaves behind neither mislead nor block anything."""

import shutil
import subprocess
from pathlib import Path

import pytest

from b2d.drivers.qemu.process import Launch, QemuProcess
from b2d.host import unix_sockets
from b2d.host.process_identity import identify
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import DockerEnv, Endpoint, ProcessIdentity
from b2d.paths import MachinePaths
from tests.cli.test_images import a_stopped_machine
from tests.support.cli import Prompt

NAME = "boot2docker-vm"


@pytest.fixture
def prompt(tmp_path: Path) -> Prompt:
    prompt = Prompt(tmp_path)
    a_stopped_machine(prompt, NAME)
    return prompt


def write_leftovers(prompt: Prompt, process: ProcessIdentity) -> MachinePaths:
    """Write the files that exist while a machine is up."""
    paths = prompt.home.machine(NAME)
    paths.qemu_pid.write_text(f"{process.pid}\n")
    QemuProcess(paths).record(Launch(Endpoint("127.0.59.103", 2022, 2376), [], "0" * 64, process))
    unix_sockets.listen(paths.qmp_socket).close()
    facts = RunningFacts("127.0.59.103", 2022, 2376, DockerEnv("tcp://127.0.59.103:2376"), process)
    MachineStore(prompt.home).write_env(NAME, facts)
    paths.lock.touch()
    paths.holder.write_text(f"{process.pid} up\n")
    return paths


@pytest.mark.parametrize("change", [{"boot_id": "of the boot before"}, {"start_time": "1"}, {"pid": 2**22 + 1}])
def test_leftovers_of_a_reboot_or_crash_do_no_harm(
    prompt: Prompt, program: "subprocess.Popen[bytes]", change: dict[str, str]
) -> None:
    """The pid may belong to another process by now, which must be left alone."""
    now = identify(program.pid)
    assert now is not None
    paths = write_leftovers(prompt, now._replace(**change))  # type: ignore[arg-type]
    assert prompt.b2d("status").out == "crashed\n"
    assert prompt.b2d("list").out.split()[-3] == "crashed"
    for verb in ("shellinit", "ip"):
        result = prompt.b2d(verb)
        assert (result.code, result.out) == (4, "")
        assert "b2d up" in result.err
    assert prompt.b2d("save").code == 4
    assert prompt.b2d("stop").code == 0
    assert prompt.b2d("status").out == "stopped\n"
    assert [path for path in (paths.env, paths.qemu_pid, paths.qmp_socket, paths.holder) if path.exists()] == []
    assert program.poll() is None


def test_a_home_removed_while_its_machine_runs_has_no_machine(
    prompt: Prompt, program: "subprocess.Popen[bytes]"
) -> None:
    now = identify(program.pid)
    assert now is not None
    write_leftovers(prompt, now)
    assert prompt.b2d("status").out == "running\n"
    shutil.rmtree(prompt.home.root)
    assert prompt.b2d("status").out == "absent\n"
    assert prompt.b2d("list").err == "there is no machine yet; create one: b2d up\n"
    assert prompt.b2d("stop").code == 3
    assert prompt.b2d("delete", "--yes").code == 0
    assert program.poll() is None
