"""Parse numbers that somebody else wrote."""


def parse(text: str | bytes, largest: int) -> int:
    """Return a decimal number of ASCII digits alone, from 0 to `largest`. Raises ValueError."""
    digits = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    # the length first: int() refuses more than 4300 digits, and takes long for many
    if not 0 < len(digits) <= 20 or not (digits.isascii() and digits.isdigit()) or int(digits) > largest:
        raise ValueError(f"{digits[:20]!r} is no number from 0 to {largest}")
    return int(digits)


def whole(value: object, least: int, largest: int) -> int:
    """Return a whole number from `least` to `largest`, given as JSON has it. Raises ValueError."""
    if type(value) is not int or not least <= value <= largest:
        raise ValueError(f"it is no number from {least} to {largest}")
    return value


def port(value: object) -> int:
    """Return a port from 1 to 65535, given as JSON has it. Raises ValueError."""
    if type(value) is not int or not 0 < value < 1 << 16:
        raise ValueError("it is no port from 1 to 65535")
    return value
