"""Parse TOML that somebody else wrote."""

from typing import Any

SIZE_LIMIT = 1 << 20  # characters; a long settings file has some kilobytes


def parse(text: str) -> dict[str, Any]:
    """Return the document. Raises ValueError, also for what is nested too deeply, too long, or has endless numbers."""
    import tomllib

    if len(text) > SIZE_LIMIT:
        raise ValueError(f"it has more than {SIZE_LIMIT} characters")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
