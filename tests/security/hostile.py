"""Text that would control a terminal, forge a line or fill the screen, and helpers for it."""

from collections.abc import Callable

EVIL = "\x1b[2J\x1b]0;title\x07a\r\nb2d: done\n\x9b31mc\x7f\u202egpj\u2066\u2028d\tz" + "\N{PILE OF POO}" * 3
LONG = EVIL + "x" * 100_000
SHOWN = "\N{PILE OF POO}"  # the part of it that remains visible in any form
OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi), surrogates, line and paragraph separators

Show = Callable[..., tuple[int, str, str]]


def raising(error: Exception) -> Callable[..., object]:
    """Return a function that raises this error."""

    def fail(*_arguments: object, **_more: object) -> object:
        raise error

    return fail
