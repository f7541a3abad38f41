"""Files in a machine's folder, which a guest may be able to write, are never run or imported (M12)."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from b2d.host.autostart import items
from b2d.host.polling import wait_until
from b2d.host.process_identity import identify
from b2d.host_agent import control
from b2d.machine_store.running_facts import RunningFacts
from b2d.machine_store.store import MachineStore
from b2d.models import DockerEnv
from b2d.paths import Home
from tests.support.fakes import a_spec

PLANTED = ("filelock", "b2d", "socket", "selectors", "psutil", "sitecustomize", "usercustomize", "json")


def test_the_agent_imports_nothing_from_the_machines_folder(
    tmp_path: Path, program: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    store, process = MachineStore(home), identify(program.pid)
    store.write(a_spec("box", address="127.0.59.251"))
    store.write_env("box", RunningFacts("127.0.59.251", 2022, 2376, DockerEnv("tcp://127.0.59.251:2376"), process))
    trace = tmp_path / "PWNED"
    paths = home.machine("box")
    for name in PLANTED:
        (paths.folder / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write(__name__)\n")
    monkeypatch.chdir(paths.folder)
    control.ensure_running(store, "box")
    agent = json.loads(paths.agent_process.read_bytes())["companion"]["pid"]
    try:
        wait_until(lambda: bool(paths.agent_lock.exists()), condition="the agent", timeout_s=20)
        assert not trace.exists()
    finally:
        os.kill(agent, signal.SIGTERM)


def test_autostart_starts_python_without_its_folder_in_the_path(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for system in ("linux", "darwin", "win32"):
        item = items.login_item(home.machine("box"), home, {"HOME": str(tmp_path), "PATH": os.defpath}, system)
        content = item.content.replace(b"\0", b"")  # type: ignore[attr-defined]
        assert b"-P" in content.split(b"-m", 1)[0].split(os.fsencode(sys.executable))[-1]


def test_no_other_module_starts_python_with_this_folder_in_its_path() -> None:
    root = Path(control.__file__).parent
    for path in root.rglob("*.py"):
        text = path.read_text()
        assert text.count('sys.executable, "-m"') == 0, path
