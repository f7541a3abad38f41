"""The commands that set up a shell's Docker environment.

Every new shell imports this module, so it imports only what Python has loaded anyway.
"""

from b2d.shell.detect import is_plain

TYPE_CHECKING = False  # as in the module typing, which is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable

EVALUATION = {  # by family: the line that evaluates the output of the command {}
    "sh": 'eval "$({})"',
    "fish": "{} | source",
    "csh": 'eval "`{}`"',
    "powershell": "{} | Invoke-Expression",
    "cmd": "@FOR /f \"tokens=*\" %i IN ('{} --shell cmd') DO @%i",
    "nu": "try {{ {} | from json | load-env }}",
}


def render(changes: "dict[str, str]", family: str) -> str:
    """Return the lines that apply the changes of variables.py, each ended by a line break; "" for no changes."""
    return "\n".join([*WORDS[family](changes), ""]) if changes else ""


def _sh(changes: "dict[str, str]") -> "list[str]":
    """Return one line that works with eval and with the bare `$(b2d shellinit)` of 2014.

    In the bare form the shell splits the output into words, undoes no quoting, and exports everything after `export`,
    where the last assignment of a name wins. So only values that need it are quoted, and then repeated without quotes
    after `;#`, which is a comment to eval; a value with blanks cannot be passed in that form. Variables to remove are
    emptied, and then unset: in the bare form that text becomes part of the last value, which is that of B2D_BEFORE, and
    its parser ignores it.
    """
    removed = [name for name, value in changes.items() if not value]
    if len(removed) == len(changes):
        return ["unset " + " ".join(removed)]
    words = [f"{name}={value and _quoted_sh(value)}" for name, value in changes.items()]
    raw = [f"{name}={value}" for name, value in changes.items()]
    line = "export " + " ".join(words)
    if words != raw and not any(blank in value for value in changes.values() for blank in " \t\n"):
        return [f"{line};# {' '.join(raw)}"]
    return [f"{line};unset {' '.join(removed)}" if removed else line]


def _fish(changes: "dict[str, str]") -> "list[str]":
    return [
        f"set -gx {name} {_quoted_fish(value)};"
        if value
        else f"set -eg {name}; if set -q {name}; set -gx {name} ''; end;"  # b2d must not erase a universal variable
        for name, value in changes.items()
    ]


def _csh(changes: "dict[str, str]") -> "list[str]":
    return [f"setenv {name} {_quoted_csh(value)};" if value else f"unsetenv {name};" for name, value in changes.items()]


def _powershell(changes: "dict[str, str]") -> "list[str]":
    return [
        f"$Env:{name} = {_quoted_powershell(value)}" if value else f"Remove-Item Env:{name} -ErrorAction Ignore"
        for name, value in changes.items()
    ]


def _cmd(changes: "dict[str, str]") -> "list[str]":
    return [f"SET {name}={value}" if is_plain(value) else f'SET "{name}={value}"' for name, value in changes.items()]


def _nu(changes: "dict[str, str]") -> "list[str]":
    pairs = [f'"{name}": {_quoted_json(value) if value else "null"}' for name, value in changes.items()]
    return ["{" + ", ".join(pairs) + "}"]


WORDS: "dict[str, Callable[[dict[str, str]], list[str]]]" = {
    "sh": _sh,
    "fish": _fish,
    "csh": _csh,
    "powershell": _powershell,
    "cmd": _cmd,
    "nu": _nu,
}


def _quoted_sh(value: str) -> str:
    return value if is_plain(value) else "'" + value.replace("'", "'\"'\"'") + "'"


def _quoted_fish(value: str) -> str:
    return value if is_plain(value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted_csh(value: str) -> str:
    if is_plain(value):
        return value
    return "'" + value.replace("'", "'\\''").replace("!", "\\!").replace("\n", "\\\n") + "'"


def _quoted_powershell(value: str) -> str:
    """Quote in ASCII: PowerShell reads the console's code page, and accepts typographic quotes as quotes."""
    return "'" + "".join(_sign_powershell(sign) for sign in value) + "'"


def _sign_powershell(sign: str) -> str:
    if " " <= sign <= "~":
        return sign.replace("'", "''")
    units = sign.encode("utf-16-le", "surrogatepass")
    numbers = [int.from_bytes(units[at : at + 2], "little") for at in range(0, len(units), 2)]
    return "'" + "".join(f"+[char]{number}" for number in numbers) + "+'"


def _quoted_json(value: str) -> str:
    text = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign >= " " else f"\\u{ord(sign):04x}" for sign in text) + '"'
