"""What a shell evaluates to find its Docker. Imported in every new shell: nothing but what Python has loaded anyway."""

import os

VARIABLES = ("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")
SHELLS = ("sh", "bash", "zsh", "dash", "ksh", "fish", "tcsh", "csh", "powershell", "pwsh", "cmd")
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%")


def detect(environ: "os._Environ[str] | dict[str, str]", windows: bool = os.name == "nt") -> str:
    """The shell to write for when none was named: the login shell, PowerShell on Windows."""
    name = environ.get("SHELL", "").replace("\\", "/").rpartition("/")[2].removesuffix(".exe")
    if name in SHELLS:
        return name
    return "powershell" if windows and not name else "sh"


def render(values: "dict[str, str]", shell: str) -> str:
    """The lines that set the variables in `values`, and unset the others. Ends with a line break.

    POSIX shells get one line, so that the bare `$(b2d shellinit)` of 2014 works as well as eval: there the shell
    splits what it gets into words and undoes no quoting, so nothing is quoted that need not be.
    """
    missing = [name for name in VARIABLES if name not in values]
    if shell == "fish":
        lines = [f"set -gx {name} {_quoted_fish(value)};" for name, value in values.items()]
        lines += [f"set -e {name};" for name in missing]
    elif shell in ("tcsh", "csh"):
        lines = [f"setenv {name} {_quoted_csh(value)};" for name, value in values.items()]
        lines += [f"unsetenv {name};" for name in missing]
    elif shell in ("powershell", "pwsh"):
        lines = [f"$Env:{name} = {_quoted_powershell(value)}" for name, value in values.items()]
        lines += [f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in missing]
    elif shell == "cmd":
        lines = [f"SET {name}={value}" for name, value in values.items()]
        lines += [f"SET {name}=" for name in missing]
    else:
        return _posix(values, missing)
    return "\n".join(lines) + "\n"


def _posix(values: "dict[str, str]", missing: "list[str]") -> str:
    # A variable that must go is emptied, which docker takes for unset: `unset` in the bare form would be an argument.
    words = [f"{name}={_quoted_posix(value)}" for name, value in values.items()]
    words += [f"{name}=" for name in missing]
    return "export " + " ".join(words) + "\n"


def _quoted_posix(value: str) -> str:
    return value if _is_plain(value) else "'" + value.replace("'", "'\"'\"'") + "'"


def _quoted_fish(value: str) -> str:
    if _is_plain(value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted_csh(value: str) -> str:
    if _is_plain(value):
        return value
    return "'" + value.replace("'", "'\\''").replace("!", "\\!").replace("\n", "\\\n") + "'"


def _quoted_powershell(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _is_plain(value: str) -> bool:
    return bool(value) and PLAIN.issuperset(value)
