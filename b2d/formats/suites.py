"""What an image says of the suites of Debian's archive that it was built from."""

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from b2d.formats.iso_files import read_file
from b2d.formats.json_text import parse
from b2d.models import Suite, SuiteState

DESCRIPTION = "/b2d/image.json"
MOST_SUITES, MOST_CHARACTERS = 16, 64  # an image may be anybody's


def of_iso(iso: Path) -> tuple[Suite, ...]:
    """Return the suites that an ISO names, none where it says nothing sound. Raises OSError."""
    try:
        return of_json(parse(read_file(iso, DESCRIPTION) or b"{}").get("suites", ()))
    except (ValueError, TypeError, AttributeError, KeyError):
        return ()


def of_json(listed: Iterable[Mapping[str, object]]) -> tuple[Suite, ...]:
    """Convert them from JSON. Raises ValueError, TypeError and KeyError for anything else."""
    found = [(str(one["name"]), str(one["date"]), SuiteState(str(one["state"]))) for one in islice(listed, MOST_SUITES)]
    return tuple(Suite(name[:MOST_CHARACTERS], date[:MOST_CHARACTERS], state) for name, date, state in found)
