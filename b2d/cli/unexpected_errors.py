"""What nobody foresaw: one sentence for the user, and all of it in a log file."""

import os
import platform
import sys
import traceback
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from b2d import __version__
from b2d.config import loader
from b2d.errors import B2dError
from b2d.host.files import check_owner, open_to_write, private_folder

NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # none on Windows
LOG_LIMIT = 1 << 20  # bytes; then another is begun, and what was before that is gone


def report_unexpected(error: Exception, arguments: Sequence[str]) -> B2dError:
    """The error as it is said: what the system refused in the system's words, anything else as a bug."""
    details = "".join(traceback.format_exception(error))
    log = _log_traceback(details, arguments)
    if isinstance(error, FileNotFoundError) and not _write_anywhere():
        return B2dError("the folder that this shell is in is no more", hint="cd")
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return B2dError(f"{place}{error.strerror}", details=details)
    where = f" (all of it is in {log})" if log else ""
    return B2dError(f"this is a bug in b2d{where}: {type(error).__name__}: {error}", details=details)


def _write_anywhere() -> bool:
    try:
        return Path.cwd().exists()
    except OSError:
        return False


def _log_traceback(details: str, arguments: Sequence[str]) -> str:
    """Where it was written down, "" when that cannot be done."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    head = f"{now} b2d {__version__}, Python {platform.python_version()}, {sys.platform}: {' '.join(arguments)}"
    try:
        home = loader.home(os.environ)
        log = home.log
        check_owner(home.root)
        private_folder(log.parent)
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(home.older_log)
        with os.fdopen(open_to_write(log), "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{_redacted(head, arguments)}\n{_redacted(details, arguments)}\n")
    except (OSError, B2dError):  # no place for it
        return ""
    return str(log)


def _redacted(text: str, arguments: Sequence[str]) -> str:
    """What may be kept: without what looks like a secret, and without what was typed as one."""
    from b2d.diagnostics.redaction import NAME, Redaction

    words = [word.partition("=") for word in arguments]
    typed = [value for name, _, value in words if NAME.search(name)]
    typed += [after for before, after in pairwise(arguments) if NAME.search(before) and "=" not in before]
    return Redaction(typed).clean(text)
