"""What a shell evaluates to find its Docker. Imported in every new shell: nothing but what Python has loaded anyway."""

from b2d.shell.detect import is_plain

TYPE_CHECKING = False  # as the module typing has it, which is slow to load
if TYPE_CHECKING:
    from collections.abc import Callable

EVALUATION = {  # what makes each shell evaluate what {} prints
    "sh": 'eval "$({})"',
    "fish": "{} | source",
    "csh": 'eval "`{}`"',
    "powershell": "{} | Invoke-Expression",
    "cmd": "@FOR /f \"tokens=*\" %i IN ('{} --shell cmd') DO @%i",
    "nu": "try {{ {} | from json | load-env }}",
}


def render(changes: "dict[str, str]", family: str) -> str:
    """The lines that make the changes of docker_variables.py. Ends with a line break; empty where there are none."""
    return "\n".join([*WORDS[family](changes), ""]) if changes else ""


def _sh(changes: "dict[str, str]") -> "list[str]":
    """One line, which the bare `$(b2d shellinit)` of 2014 takes as well as eval.

    There the shell splits what it gets into words, undoes no quoting, and exports all that follows `export`, the last
    of a name counting. So nothing is quoted that need not be, and what must be stands once more as it is behind `;#`,
    where eval sees a comment; a value with blanks in it cannot be had so. What must go is emptied, and then unset: the
    bare form makes that a part of the last value, which is the memory's, and the memory allows for it.
    """
    gone = [name for name, value in changes.items() if not value]
    if len(gone) == len(changes):
        return ["unset " + " ".join(gone)]
    words = [f"{name}={value and _quoted_sh(value)}" for name, value in changes.items()]
    raw = [f"{name}={value}" for name, value in changes.items()]
    line = "export " + " ".join(words)
    if words != raw and not any(blank in value for value in changes.values() for blank in " \t\n"):
        return [f"{line};# {' '.join(raw)}"]
    return [f"{line};unset {' '.join(gone)}" if gone else line]


def _fish(changes: "dict[str, str]") -> "list[str]":
    return [
        f"set -gx {name} {_quoted_fish(value)};"
        if value
        else f"set -eg {name}; if set -q {name}; set -gx {name} ''; end;"  # a universal one is not ours to erase
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
    """One line of ASCII: PowerShell reads in the console's code page, and takes typographic quotes for quotes."""
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
