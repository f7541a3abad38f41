"""Calls of VirtualBox's API: errors, operations, locks, and processes that hang."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from b2d.errors import B2dError, HypervisorError, MachineLockedError, WaitTimeoutError
from b2d.host.polling import wait_until
from b2d.machine_names import command_for

OWN_ERRORS: tuple[type[BaseException], ...] = (B2dError, OSError)
LOCK_WAIT_S = 5.0  # for another program to unlock a machine
NOT_FOUND, LOCKED = 0x80BB0001, 0x80BB0007
SERVICE_GONE = frozenset({0x80004004, 0x800706BE, 0x80470002, 0xC1F30200})
# the base classes of pyvbox, of xpcom, and of COM on Windows
BASES = (("virtualbox.library", "VBoxError"), ("xpcom", "Exception"), ("pywintypes", "com_error"))


class VirtualBoxError(B2dError):
    """An error reported by VirtualBox; `code` is its own number."""

    def __init__(self, code: int, text: str) -> None:
        """Keep the code, and use the first line of the text as the message."""
        first = text.strip().splitlines()[0] if text.strip() else f"error 0x{code:08x}"
        super().__init__(f"VirtualBox: {first}", details=text.strip())
        self.code = code


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise VirtualBox's errors as b2d's."""
    try:
        yield
    except foreign_errors() as error:
        raise translate_error(error) from error


def translate_error(error: BaseException) -> B2dError:
    """Return b2d's error for one of VirtualBox's."""
    code = error_code(error)
    if code in SERVICE_GONE:
        return HypervisorError(
            "VirtualBox's service (VBoxSVC) has ended; run the same command again", details=str(error)
        )
    return VirtualBoxError(code, str(getattr(error, "msg", "") or error))


def error_code(error: BaseException) -> int:
    """Return VirtualBox's number for an error, -1 when it has none."""
    for name in ("value", "errno", "hresult"):  # pyvbox's, xpcom's, COM's
        if isinstance(number := getattr(error, name, None), int):
            return number & 0xFFFFFFFF
    return -1


def foreign_errors() -> tuple[type[BaseException], ...]:
    """Return the exception types of the bindings that are loaded by now."""
    return tuple(getattr(sys.modules[module], name) for module, name in BASES if module in sys.modules)


def wait_for_progress(progress: Any, operation: str, timeout_s: float) -> None:
    """Wait for one of VirtualBox's operations. Raises VirtualBoxError when it failed, and WaitTimeoutError."""
    wait_until(lambda: bool(progress.completed), condition=operation, timeout_s=timeout_s, interval_s=0.02)
    code = int(progress.result_code) & 0xFFFFFFFF
    if code:
        # a process that died left no reason: pyvbox wraps that too, as an object without a text
        raise VirtualBoxError(code, str(getattr(progress.error_info, "text", "")))


def retry_while_locked(call: Callable[[], Any], holder: Callable[[], int | None]) -> Any:
    """Return the result of a call that needs a machine's lock.

    Raises MachineLockedError, naming the process that holds it for too long.
    """
    results: list[Any] = []

    def attempt() -> bool:
        try:
            results.append(call())
        except foreign_errors() as error:
            if error_code(error) == LOCKED:
                return False
            raise translate_error(error) from error
        return True

    try:
        wait_until(attempt, condition="the machine", timeout_s=LOCK_WAIT_S)
    except WaitTimeoutError as error:
        raise MachineLockedError(
            f"the machine is locked in VirtualBox by {_process_name(holder())}", hint="close that program first"
        ) from error
    return results[0]


def run_with_timeout(machine: str, timeout_s: float, call: Callable[[], None]) -> None:
    """Run a call to the process of a machine. Raises HypervisorError when it hangs: its thread is abandoned then."""
    if sys.platform == "win32":  # COM objects belong to their thread
        call()
        return
    failures: list[BaseException] = []
    is_done = threading.Event()

    def run() -> None:
        try:
            call()
        except OWN_ERRORS + foreign_errors() as error:
            failures.append(error)
        is_done.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        message = "the machine's process (VBoxHeadless) does not answer"
        raise HypervisorError(message, hint=command_for("poweroff", machine))
    for failure in failures:
        raise failure
    if not is_done.is_set():
        raise AssertionError("the thread ended with an unexpected error")


def _process_name(pid: int | None) -> str:
    import psutil

    if pid is None:
        return "another program"
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
