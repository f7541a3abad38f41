"""A small client of QEMU's control socket: one command after another, each with a timeout.

The library qemu.qmp needs asyncio, whose import alone takes longer than all of `b2d status`. All that is needed of the
protocol is a line of JSON each way, with events that may come between.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from b2d.errors import HypervisorError, WaitTimeoutError
from b2d.formats import json_text
from b2d.host import unix_sockets
from b2d.host.polling import wait_until
from b2d.machine_names import command_for

ANSWER_TIMEOUT_S = 1.0  # for immediate answers; a connection and one command stay within 2 s
LINE_LIMIT = 4 * 1024 * 1024  # bytes; the longest real answer is some KiB
CHUNK = 64 * 1024
DETAILS = 200  # characters of a bad answer in an error
JOB_INTERVAL_S = 0.02


class QmpError(HypervisorError):
    """The control socket is missing, or its protocol is violated."""


class QmpTimeoutError(QmpError):
    """A process listens, but no answer came in time."""


class QmpCommandError(QmpError):
    """QEMU refused a command."""


class Qmp:
    """A connection, to be used in a `with`. Every method raises QmpError.

    QEMU serves one connection at a time: a second one waits, and ends in QmpTimeoutError.
    """

    def __init__(self, path: Path, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Connect to the socket at `path`, within `timeout_s` seconds."""
        import socket  # slow to import, and `b2d status` of a machine that is off needs none

        deadline = time.monotonic() + timeout_s
        self._machine = path.parent.name  # the socket is in the machine's folder
        self._rest = b""
        self._commands = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.version = self._greet(path, deadline)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> "Qmp":
        """Return the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def execute(self, command: str, timeout_s: float = ANSWER_TIMEOUT_S, **arguments: object) -> Any:
        """Return the answer to a command; `_` in the names of arguments stands for `-`. Events are skipped."""
        return self._send(
            command,
            {name.replace("_", "-"): value for name, value in arguments.items()},
            time.monotonic() + timeout_s,
        )

    def send_descriptor(self, name: str, descriptor: int) -> None:
        """Give QEMU a copy of a file descriptor, for `fd:NAME` in its commands."""
        import socket

        def send(data: bytes) -> None:
            socket.send_fds(self._socket, [data], [descriptor])

        self._send("getfd", {"fdname": name}, time.monotonic() + ANSWER_TIMEOUT_S, send)

    def run_job(self, command: str, timeout_s: float, **arguments: object) -> None:
        """Run a job of QEMU to its end. Raises QmpCommandError when it fails, and WaitTimeoutError.

        QEMU answers nothing while it writes or reads a machine's state: a query may take all that time.
        """
        deadline = time.monotonic() + timeout_s
        job = f"b2d-{command}-{time.monotonic_ns()}"  # a job of a b2d that was killed stays until QEMU ends
        self.execute(command, timeout_s, job_id=job, **arguments)
        status: dict[str, Any] = {}

        def concluded() -> bool:
            jobs = self.execute("query-jobs", max(deadline - time.monotonic(), ANSWER_TIMEOUT_S))
            if not isinstance(jobs, list):
                raise QmpError("QEMU does not list its jobs", details=repr(jobs)[:DETAILS])
            matching = (entry for entry in jobs if isinstance(entry, dict) and entry.get("id") == job)
            status.update(next(matching, {"status": "concluded"}))
            return status.get("status") == "concluded"

        try:
            wait_until(concluded, condition=f"QEMU's {command}", timeout_s=timeout_s, interval_s=JOB_INTERVAL_S)
        except QmpTimeoutError as error:
            raise WaitTimeoutError(f"QEMU's {command} did not end within {timeout_s:.0f} s") from error
        if "id" in status:
            self.execute("job-dismiss", id=job)
        if status.get("error"):
            raise QmpCommandError(f"QEMU could not {command}: {status['error']}")

    def _greet(self, path: Path, deadline: float) -> str:
        """Connect, leave the negotiation mode, and return QEMU's version."""
        self._translate_errors(lambda: unix_sockets.connect(self._socket, path), deadline)
        greeting = self._read_message(deadline)
        try:
            version = greeting["QMP"]["version"]["qemu"]
            text = f"{version['major']}.{version['minor']}.{version['micro']}"
            package = greeting["QMP"]["version"].get("package", "")
        except (KeyError, TypeError, AttributeError) as error:
            raise QmpError("the process on the control socket is not QEMU", details=repr(greeting)[:DETAILS]) from error
        self._send("qmp_capabilities", {}, deadline)
        return f"{text} {package}".strip()

    def _send(
        self,
        command: str,
        arguments: dict[str, object],
        deadline: float,
        send: Callable[[bytes], None] | None = None,
    ) -> Any:
        self._commands += 1
        request = {"execute": command, "arguments": arguments, "id": self._commands}
        data = json.dumps(request).encode() + b"\n"
        self._translate_errors(lambda: (send or self._socket.sendall)(data), deadline)
        while True:
            answer = self._read_message(deadline)
            if answer.get("id") != self._commands:
                continue  # an event, or the answer to an abandoned command
            if "error" in answer:
                failure = answer["error"]
                text = failure.get("desc", "") if isinstance(failure, dict) else str(failure)
                raise QmpCommandError(f"QEMU refused {command}: {text}")
            return answer.get("return")

    def _read_message(self, deadline: float) -> dict[str, Any]:
        """Return the next message; keep the bytes after it for the next call."""
        while b"\n" not in self._rest:
            if len(self._rest) > LINE_LIMIT:
                raise QmpError("QEMU's answer is too long")
            data: bytes = self._translate_errors(lambda: self._socket.recv(CHUNK), deadline)
            if not data:
                raise QmpError("QEMU closed its control socket")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            message = json_text.parse(line)
        except ValueError as error:
            raise QmpError("QEMU's answer is not JSON", details=repr(line[:DETAILS])) from error
        if not isinstance(message, dict):
            raise QmpError("QEMU's answer is not a JSON object", details=repr(line[:DETAILS]))
        return message

    def _translate_errors(self, act: Callable[[], Any], deadline: float) -> Any:
        left = deadline - time.monotonic()
        if left <= 0:
            raise QmpTimeoutError(
                "QEMU does not answer on its control socket", hint=command_for("poweroff", self._machine)
            )
        self._socket.settimeout(left)
        try:
            return act()
        except (TimeoutError, BlockingIOError) as error:  # BlockingIOError: the queue of connections is full
            raise QmpTimeoutError(
                "QEMU does not answer on its control socket", hint=command_for("poweroff", self._machine)
            ) from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            hint = f"{command_for('ssh -- sudo poweroff', self._machine)}, or {command_for('poweroff', self._machine)}"
            raise QmpError("QEMU's control socket is gone, so its power button cannot be pressed", hint=hint) from error
        except OSError as error:
            raise QmpError(f"QEMU's control socket: {error.strerror or error}") from error
