"""Processes of b2d, forked from a server that has loaded its modules: a tenth of the time of a new interpreter.

Such a process is one of its own, with the arguments, environment, folder and output files that it is given, and runs
`b2d.__main__.main` as the installed command does. What depends on the start of the interpreter needs a real command.
"""

import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import b2d
from tests.support.paths import ROOT

INTERPRETER = ("PYTHON", "LC_", "LD_")  # variables that count when the interpreter starts
LANG = "C.UTF-8"
SERVER = """
import sys
from tests.support.fork_server import serve
if serve(int(sys.argv[1]), sys.argv[2]):
    from b2d.__main__ import main
    sys.exit(main())
"""


def can_run(environment: Mapping[str, str]) -> bool:
    """Return True when a forked process acts as a new one would in that environment, on this system."""
    starts_alike = environment.get("LANG") == LANG and not any(name.startswith(INTERPRETER) for name in environment)
    return starts_alike and sys.platform == "linux" and not os.environ.get("B2D_TEST_NO_FORK")


def run(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, timeout_s: float
) -> "subprocess.CompletedProcess[bytes]":
    """Run the installed command, `command[0]`, with an empty stdin. Raises TimeoutExpired, having killed it."""
    umask = os.umask(0)
    os.umask(umask)
    request = {"argv": [*command], "environ": {**environment}, "folder": str(folder), "umask": umask}
    with (
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        connection.connect(_address(command[0]))
        content = json.dumps(request).encode()
        socket.send_fds(connection, [len(content).to_bytes(4)], [stdout.fileno(), stderr.fileno()])
        connection.sendall(content)
        with connection.makefile("r") as answer:
            pid = int(answer.readline())
            connection.settimeout(timeout_s)
            try:
                code = int(answer.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout_s) from None
        output = []
        for file in (stdout, stderr):
            file.seek(0)
            output.append(file.read())
    return subprocess.CompletedProcess(command, code, *output)


@cache
def _address(program: str) -> bytes:
    """Start the server of this process, which ends with it; return the address of its socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("")  # the kernel chooses an abstract address
    listener.listen(64)
    _servers.append(
        subprocess.Popen(
            [sys.executable, "-c", SERVER, str(listener.fileno()), program],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "LANG": LANG},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
    )
    address: bytes = listener.getsockname()
    return address


_servers: list["subprocess.Popen[bytes]"] = []


def serve(descriptor: int, program: str) -> bool:
    """Serve until the process that started the server ends; return True in each process that is to run b2d."""
    listener = socket.socket(fileno=descriptor)
    for module in pkgutil.walk_packages(b2d.__path__, "b2d."):
        if module.name not in ("b2d.__main__", "b2d.pytest_plugin"):
            importlib.import_module(module.name)
    importlib.import_module("b2d.__main__")
    sys.path[0] = str(Path(program).parent)
    gc.freeze()  # the forked processes share these objects
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return False
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _supervise(connection)
            return True
        connection.close()


def _supervise(connection: socket.socket) -> None:
    """Fork a process for a request and return in it; wait for its end in this one, and report its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
    with connection.makefile("rb") as file:
        request = json.loads(file.read(int.from_bytes(size)))
    pid = os.fork()
    if pid:
        connection.sendall(f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
        os._exit(0)
    connection.close()
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *descriptors)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = request["argv"]
    os.fsync = lambda fd: None  # durability is not tested, and a busy disk takes long
