"""Parse foreign numbers."""


def parse(text: str | bytes, largest: int) -> int:
    """Return a decimal number from 0 to `largest`, in ASCII digits only. Raises ValueError."""
    digits = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    # the length first: int() is slow for many digits, and refuses more than 4300
    if not 0 < len(digits) <= 20 or not (digits.isascii() and digits.isdigit()) or int(digits) > largest:
        raise ValueError(f"{digits[:20]!r} is not a number from 0 to {largest}")
    return int(digits)


def whole(value: object, least: int, largest: int) -> int:
    """Return an integer of JSON from `least` to `largest`. Raises ValueError."""
    if type(value) is not int or not least <= value <= largest:
        raise ValueError(f"it is not a number from {least} to {largest}")
    return value


def port(value: object) -> int:
    """Return a port of JSON from 1 to 65535. Raises ValueError."""
    if type(value) is not int or not 0 < value < 1 << 16:
        raise ValueError("it is not a port from 1 to 65535")
    return value
