"""Unexpected errors: one sentence for the user, and the whole traceback in a log file."""

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

LOG_LIMIT = 1 << 20  # bytes; a larger log is rotated, and the one rotated before is lost


def report_unexpected(error: Exception, arguments: Sequence[str]) -> B2dError:
    """Log an exception and return the error to print: the system's own message for an OSError, else a bug report."""
    details = "".join(traceback.format_exception(error))
    log = _log_traceback(details, arguments)
    if isinstance(error, FileNotFoundError) and not _has_working_folder():
        return B2dError("the current folder of this shell no longer exists", hint="cd")
    if isinstance(error, OSError) and error.strerror:
        prefix = f"{error.filename}: " if error.filename is not None else ""
        return B2dError(f"{prefix}{error.strerror}", details=details)
    location = f" (the traceback is in {log})" if log else ""
    return B2dError(f"this is a bug in b2d{location}: {type(error).__name__}: {error}", details=details)


def _has_working_folder() -> bool:
    try:
        return Path.cwd().exists()
    except OSError:
        return False


def _log_traceback(details: str, arguments: Sequence[str]) -> str:
    """Append a traceback to the log; return the log's path, "" when it cannot be written."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    head = f"{now} b2d {__version__}, Python {platform.python_version()}, {sys.platform}: {' '.join(arguments)}"
    try:
        home = loader.resolve_home(os.environ)
        log = home.log
        check_owner(home.root)
        private_folder(log.parent)
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(home.older_log)
        with os.fdopen(open_to_write(log), "a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{_redact(head, arguments)}\n{_redact(details, arguments)}\n")
    except (OSError, B2dError):  # an unwritable home must not hide the error itself
        return ""
    return str(log)


def _redact(text: str, arguments: Sequence[str]) -> str:
    """Return the text without what looks like a secret, and without values typed for options named as secrets."""
    from b2d.diagnostics.redaction import NAME, Redaction

    words = [word.partition("=") for word in arguments]
    secrets = [value for name, _, value in words if NAME.search(name)]
    secrets += [after for before, after in pairwise(arguments) if NAME.search(before) and "=" not in before]
    return Redaction(secrets).clean(text)
