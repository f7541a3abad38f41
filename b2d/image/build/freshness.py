"""Check that an archive's index is recent: expired, older than the last one, or from the future is refused.

Anyone on the path of plain http can replay an old index, which is signed as well as the newest (apt-secure(8)).
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from b2d.errors import DownloadError
from b2d.formats.json_text import parse
from b2d.host.files import private_folder, read_bounded, write_atomic
from b2d.image.build.package_cache import HINT_MIRROR
from b2d.models import Suite, SuiteState
from b2d.reporting.base import Reporter

FUTURE_TOLERANCE = timedelta(days=1)  # of this host's clock
FORMAT = 1
LIMIT = 1 << 20  # bytes of the file of dates
HINT = f"{HINT_MIRROR}; to accept missing updates this once: b2d download --allow-expired"


class StaleIndexError(DownloadError):
    """An index or a package that is older than it may be: security updates may be held back."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The reference for the indexes of a build; `allow_expired` turns refusals of old ones into warnings."""

    last_seen: Mapping[str, datetime] = field(default_factory=dict)  # suite: the newest Date of an index so far
    stored: Mapping[str, str] = field(default_factory=dict)  # package: its version in the newest stored image
    allow_expired: bool = False
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def judge(self, suite: str, date: datetime, valid_until: datetime | None, reporter: Reporter) -> Suite:
        """Return the state of a suite's index. Raises StaleIndexError for one that must not be used."""
        if date > self.now + FUTURE_TOLERANCE:
            raise StaleIndexError(
                f"the index of {suite} is dated {_day(date)}, but this host's clock says {_day(self.now)}",
                hint="set this host's clock, or try another mirror",
            )
        state = SuiteState.CURRENT
        if valid_until is not None and valid_until < self.now:
            self._refuse(
                f"the index of {suite} expired on {_day(valid_until)} (or this host's clock is wrong)", reporter
            )
            state = SuiteState.EXPIRED
        elif (newest := self.last_seen.get(suite)) is not None and date < newest:
            self._refuse(
                f"the index of {suite} of {_day(date)} is older than the last one, of {_day(newest)}", reporter
            )
            state = SuiteState.OLDER
        return Suite(suite, f"{date.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", state)

    def mark_missing(self, suite: str, failure: DownloadError, reporter: Reporter) -> Suite:
        """Return the suite as left out. Raises `failure` unless `allow_expired` permits that."""
        if not self.allow_expired:
            raise failure
        reporter.warn(f"{suite} is left out, security updates may be missing: {failure.message}")
        return Suite(suite, "", SuiteState.MISSING)

    def check_versions(self, versions: Mapping[str, str], reporter: Reporter) -> None:
        """Raise StaleIndexError where a package is older than in the newest stored image.

        Debian's versions never go back.
        """
        from debian.debian_support import Version

        older = [
            f"{name} {version} (stored: {self.stored[name]})"
            for name, version in sorted(versions.items())
            if name in self.stored and Version(version) < Version(self.stored[name])
        ]
        if older:
            more = f" and {len(older) - 1} more" if len(older) > 1 else ""
            self._refuse(f"the archive has an older package than the newest stored image: {older[0]}{more}", reporter)

    def _refuse(self, message: str, reporter: Reporter) -> None:
        if not self.allow_expired:
            raise StaleIndexError(message, hint=HINT)
        reporter.warn(f"{message}; it is used because of --allow-expired")


def read_dates(path: Path) -> dict[str, datetime]:
    """Return the newest Date seen of each suite. Raises DownloadError for a file that cannot be read."""
    try:
        recorded = parse(read_bounded(path, LIMIT))
        return {str(suite): _recorded_date(date) for suite, date in recorded["suites"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DownloadError(
            f"{path}, which records the dates of Debian's indexes, cannot be read",
            hint=f"rm {shlex.quote(str(path))}",
            details=repr(error),
        ) from error


def record_dates(path: Path, suites: Iterable[Suite]) -> None:
    """Record the Date of each suite unless a newer one is recorded. Raises DownloadError and OSError."""
    dates = read_dates(path)
    for suite in suites:
        if suite.date:
            date = datetime.fromisoformat(suite.date)
            dates[suite.name] = max(date, dates.get(suite.name, date))
    document = {"format": FORMAT, "suites": {suite: date.isoformat() for suite, date in sorted(dates.items())}}
    private_folder(path.parent)
    write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def _recorded_date(text: str) -> datetime:
    """Parse a recorded date.

    Raises ValueError for a date without a zone, which compares with no other, TypeError and OverflowError.
    """
    date = datetime.fromisoformat(text)
    if date.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return date.astimezone(UTC)


def _day(date: datetime) -> str:
    return f"{date.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
