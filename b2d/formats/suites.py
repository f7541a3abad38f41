"""The suites of Debian's archive from which an image was built, as it records them."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from b2d.formats.iso_files import read_file
from b2d.formats.json_text import parse
from b2d.models import Suite, SuiteState

DESCRIPTION = "/b2d/image.json"
MAX_SUITES, MAX_CHARACTERS = 16, 64  # the image may be foreign


def of_iso(iso: Path) -> tuple[Suite, ...]:
    """Return the suites that an ISO records, none where that is invalid. Raises OSError."""
    try:
        return of_json(parse(read_file(iso, DESCRIPTION) or b"{}").get("suites", ()))
    except (ValueError, TypeError, AttributeError, KeyError):
        return ()


def of_json(listed: Iterable[Mapping[str, object]]) -> tuple[Suite, ...]:
    """Convert suites from JSON. Raises ValueError, TypeError and KeyError."""
    suites = [
        (str(entry["name"]), str(entry["date"]), SuiteState(str(entry["state"])))
        for entry in islice(listed, MAX_SUITES)
    ]
    return tuple(Suite(name[:MAX_CHARACTERS], date[:MAX_CHARACTERS], state) for name, date, state in suites)
