"""What VirtualBox, vboxapi and pyvbox raise becomes b2d's errors here, whichever of them raised it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from b2d.errors import B2dError, HypervisorError

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
