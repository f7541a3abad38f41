"""Call VirtualBox: translate its errors, wait for its operations and locks, and give up a process that hangs."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from b2d.errors import B2dError, HypervisorError, MachineLockedError, WaitTimeoutError
from b2d.host.polling import wait_until

OWN_ERRORS: tuple[type[BaseException], ...] = (B2dError, OSError)
LOCK_WAIT_S = 5.0  # that another program may take to let go of a machine
NOT_FOUND, LOCKED = 0x80BB0001, 0x80BB0007
SERVICE_GONE = frozenset({0x80004004, 0x800706BE, 0x80470002, 0xC1F30200})
# the base classes of pyvbox, of xpcom, and of COM on Windows
BASES = (("virtualbox.library", "VBoxError"), ("xpcom", "Exception"), ("pywintypes", "com_error"))


class VirtualBoxError(B2dError):
    """VirtualBox said no; `code` is its own number for that."""

    def __init__(self, code: int, text: str) -> None:
        first = text.strip().splitlines()[0] if text.strip() else f"error 0x{code:08x}"
        super().__init__(f"VirtualBox: {first}", details=text.strip())
        self.code = code


@contextmanager
def translate_errors() -> Iterator[None]:
    """Whatever VirtualBox raises, as b2d's error."""
    try:
        yield
    except foreign_errors() as error:
        raise translated(error) from error


def translated(error: BaseException) -> B2dError:
    code = code_of(error)
    if code in SERVICE_GONE:
        return HypervisorError(
            "VirtualBox's service (VBoxSVC) has ended: the same command works again", details=str(error)
        )
    return VirtualBoxError(code, str(getattr(error, "msg", "") or error))


def code_of(error: BaseException) -> int:
    for name in ("value", "errno", "hresult"):  # pyvbox's, xpcom's, COM's
        if isinstance(number := getattr(error, name, None), int):
            return number & 0xFFFFFFFF
    return -1


def foreign_errors() -> tuple[type[BaseException], ...]:
    """The exceptions of those that are loaded by now."""
    return tuple(getattr(sys.modules[module], name) for module, name in BASES if module in sys.modules)


def wait_for_progress(progress: Any, what: str, timeout_s: float) -> None:
    """Wait for one of VirtualBox's operations. Raises Refused when it failed, and WaitTimeoutError."""
    wait_until(lambda: bool(progress.completed), condition=what, timeout_s=timeout_s, interval_s=0.02)
    code = int(progress.result_code) & 0xFFFFFFFF
    if code:
        # a process that died has left no reason, and pyvbox wraps what is nothing too: without a text
        raise VirtualBoxError(code, str(getattr(progress.error_info, "text", "")))


def retry_while_locked(question: Callable[[], Any], holder: Callable[[], int | None]) -> Any:
    """The answer to a question that needs a machine's lock.

    Raises MachineLockedError, naming the process that keeps it too long.
    """
    answers: list[Any] = []

    def asked() -> bool:
        try:
            answers.append(question())
        except foreign_errors() as error:
            if code_of(error) == LOCKED:
                return False
            raise translated(error) from error
        return True

    try:
        wait_until(asked, condition="the machine", timeout_s=LOCK_WAIT_S)
    except WaitTimeoutError as error:
        raise MachineLockedError(
            f"the machine is locked in VirtualBox by {_named(holder())}", hint="close that first"
        ) from error
    return answers[0]


def run_with_timeout(timeout_s: float, asked: Callable[[], None]) -> None:
    """Ask a machine's own process. Raises HypervisorError when it hangs: the thread that asked is given up then."""
    if sys.platform == "win32":  # COM's objects stay in their thread
        asked()
        return
    failures: list[BaseException] = []
    answered = threading.Event()

    def run() -> None:
        try:
            asked()
        except OWN_ERRORS + foreign_errors() as error:
            failures.append(error)
        answered.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        raise HypervisorError("the machine's process (VBoxHeadless) does not answer", hint="b2d poweroff")
    for failure in failures:
        raise failure
    if not answered.is_set():
        raise AssertionError("the thread ended by an error that nobody expected")


def _named(pid: int | None) -> str:
    import psutil

    if pid is None:
        return "another program"
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
