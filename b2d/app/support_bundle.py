"""Collect diagnostics for remote troubleshooting in one archive, without secrets."""

import gzip
import io
import json
import os
import platform
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from b2d._version import __version__
from b2d.app import inspect
from b2d.app.wiring import App
from b2d.diagnostics.logs import tail_docker_log
from b2d.diagnostics.redaction import NAME, Redaction, find_credentials, find_secret_values
from b2d.errors import B2dError
from b2d.formats import json_text
from b2d.host.files import open_regular, os_errors_as_b2d_errors, read_text_tail, write_atomic
from b2d.models import MachineState
from b2d.network import endpoints
from b2d.network.endpoints import REDACTED
from b2d.network.http_client import AUTHORITIES
from b2d.paths import Home, MachinePaths
from b2d.shell.variables import NO_PROXY, PROXIES

TAIL = 256 << 10  # bytes of each log
CUT_MARK = "-----BEGIN CUT-----\n"  # what was cut off may end inside a key, and is taken for one
FILES = 5000
GUEST_S = 10.0
OWN_VARIABLES = ("B2D_", "DOCKER_", "BOOT2DOCKER_", "VBOX_", "LC_", "WSL_")
VARIABLES = {*PROXIES, *NO_PROXY, *AUTHORITIES, "PATH", "SHELL", "TERM", "LANG", "NO_COLOR", "COLUMNS", "TMPDIR"}
LIBRARIES = ("click", "cryptography", "filelock", "paramiko", "psutil", "requests", "rich", "urllib3", "virtualbox")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive, and the function that returns its content."""

    name: str
    ask: Callable[[], str]


def write_bundle(path: Path, parts: Iterator[Part], redaction: Redaction) -> list[str]:
    """Write all parts, redacted, to `path`, which only its owner can read; return their names."""
    names = []
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", filename="") as squeezed,
        tarfile.TarFile(fileobj=squeezed, mode="w") as tar,
    ):
        for part in parts:
            name = redaction.clean(part.name)
            content = redaction.clean(_command_output(part))[-TAIL:].encode()
            entry = tarfile.TarInfo(f"b2d-support/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(datetime.now().timestamp())
            tar.addfile(entry, io.BytesIO(content))
            names.append(name)
    with os_errors_as_b2d_errors(path):
        write_atomic(path, packed.getvalue())
    return names


def _command_output(part: Part) -> str:
    try:
        return part.ask()
    except B2dError as error:
        return f"{error.message}\n{error.details}\n"
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:  # the other parts are still written
        return f"not available: {error!r}\n"


def bundle_parts(app: App, environ: Mapping[str, str], trouble: str) -> Iterator[Part]:
    """Yield the parts of the archive; `trouble` is why the settings could not be read, "" where they could."""
    yield Part("versions.txt", _versions)
    yield Part("environment.txt", lambda: _environment(environ))
    yield Part("config.json", lambda: trouble or _settings(app))
    yield Part("doctor.json", lambda: _json([asdict(finding) for finding in app.examination().findings()]))
    yield Part("files.txt", lambda: "".join(_files(app.home.root)))
    yield from (_log(path.name, path) for path in (app.home.older_log, app.home.log) if os.path.exists(path))  # noqa: PTH110  pathlib's raises where nothing may be looked at
    for name in _machines(app.home):
        yield from _machine_parts(app, name, app.home.machine(name))


def _machine_parts(app: App, name: str, paths: MachinePaths) -> Iterator[Part]:
    folder = f"machines/{name}"
    yield Part(f"{folder}/info.json", lambda: _json(inspect.describe_machine(app, name)))
    logs = (paths.spec, paths.qemu_record, paths.serial_log, paths.qemu_log, paths.virtiofsd_log, paths.virtualbox_log)
    yield from (_log(f"{folder}/{path.name}", path) for path in logs if os.path.exists(path))  # noqa: PTH110  as above
    yield Part(f"{folder}/docker.log", lambda: _docker_log(app, name))


def _docker_log(app: App, name: str) -> str:
    """Return the end of the log of Docker in a running machine, within GUEST_S seconds."""
    machine = app.machine(name)
    if machine.state() != MachineState.RUNNING:
        return "the machine is not running\n"
    output = machine.guest().run(tail_docker_log(f"-c {TAIL}"), GUEST_S).stdout
    return CUT_MARK + output[-TAIL:].decode(errors="replace")


def _log(name: str, path: Path) -> Part:
    def ask() -> str:
        with open_regular(path) as file:
            begin = max(0, os.fstat(file.fileno()).st_size - TAIL)
            file.seek(begin)
            return (CUT_MARK if begin else "") + file.read(TAIL).decode(errors="replace")

    return Part(name, ask)


def _machines(home: Home) -> list[str]:
    """Return the names of the folders that may be machines, whatever their content."""
    with suppress(OSError):
        return sorted(path.name for path in home.machines.iterdir() if path.is_dir() and not path.name.startswith("."))
    return []


def _versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    lines = [f"b2d {__version__}", f"Python {sys.version}", platform.platform(), platform.machine()]
    for library in LIBRARIES:
        with suppress(PackageNotFoundError):
            lines.append(f"{library} {version(library)}")
    return "\n".join(lines) + "\n"


def _environment(environ: Mapping[str, str]) -> str:
    named = {name: environ[name] for name in sorted(environ) if name.startswith(OWN_VARIABLES) or name in VARIABLES}
    named |= {
        name: endpoints.without_password(value)
        for name, value in named.items()
        if name.lower().endswith(endpoints.PROXIES)
    }
    return "".join(f"{name}={REDACTED if NAME.search(name) else value}\n" for name, value in named.items())


def _settings(app: App) -> str:
    origins = app.effective.origins
    values = app.settings._asdict()
    values |= {key: endpoints.without_password(values[key]) for key in endpoints.PROXIES}
    values |= {"password": REDACTED} if values["password"] else {}
    return _json({key: {"value": value, "origin": origins[key]} for key, value in values.items()})


def _files(root: Path) -> Iterator[str]:
    """Yield permissions, size, time and name of each file below, and the error of each unreadable folder."""
    refused: list[OSError] = []
    count = 0
    for folder, folders, names in os.walk(root, onerror=refused.append):
        folders.sort()
        for name in sorted([*folders, *names]):
            path = Path(folder) / name
            with suppress(OSError):
                status = path.lstat()
                when = datetime.fromtimestamp(status.st_mtime).astimezone().isoformat(timespec="seconds")
                yield f"{stat.filemode(status.st_mode)} {status.st_size:12} {when} {path.relative_to(root)}\n"
            count += 1
            if count >= FILES:
                yield "and more\n"
                return
    yield from (f"{error}\n" for error in refused)


def redactor(app: App, environ: Mapping[str, str], texts: Sequence[Path]) -> Redaction:
    """Return a redaction of this home's and this user's secrets, which `texts` (settings files) may hold too."""
    secrets = [app.settings.password, *(value for name, value in environ.items() if NAME.search(name))]
    proxies = (app.settings.http_proxy, app.settings.https_proxy)
    secrets += [
        form
        for proxy in proxies
        for form in (endpoints.password_of(proxy), endpoints.password_of(endpoints.guest_proxy(proxy)))
    ]
    sources = [*environ.values(), *(_text(path) for path in texts)]
    secrets += [password for text in sources for password in find_credentials(text)]
    secrets += [*_settings_secrets(texts), *_passwords_of_machines(app.home)]
    docker = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "~")) / ".docker") / "config.json"
    for text in (_text(docker), environ.get("DOCKER_AUTH_CONFIG", "")):
        secrets += _docker_secrets(text)
    secrets += [
        line for path in _key_files(app.home) for line in _text(path).splitlines() if not line.startswith("-----")
    ]
    folders, names = set(), {environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME")}
    for folder in filter(None, (environ.get("HOME"), environ.get("USERPROFILE"))):
        folders |= {folder, os.path.realpath(folder)}
        names.add(Path(folder).name)
    return Redaction(secrets, folders, names)


def _settings_secrets(texts: Sequence[Path]) -> Iterator[str]:
    """Yield the values of secret settings in those files, in force or not."""
    from b2d.formats import toml_document

    for path in texts:
        with suppress(ValueError):
            yield from find_secret_values(toml_document.parse(_text(path)))


def _passwords_of_machines(home: Home) -> Iterator[str]:
    """Yield the passwords that guests were given last: the settings may have changed since."""
    from b2d.machine.boot_preparation import access_of
    from b2d.models import Access

    for name in _machines(home):
        with suppress(B2dError, OSError, ValueError, LookupError, tarfile.TarError):
            yield access_of(home.machine(name), Access()).password


def _docker_secrets(text: str) -> Iterator[str]:
    """Yield the registry credentials in docker's own settings, as stored and decoded."""
    import base64

    try:
        secrets = list(find_secret_values(json_text.parse(text)))
    except (ValueError, RecursionError):
        return
    for value in secrets:
        yield value
        with suppress(ValueError):
            yield from base64.b64decode(value).decode().partition(":")[2:]


def _key_files(home: Home) -> Iterator[Path]:
    for name in _machines(home):
        paths = home.machine(name)
        yield from (paths.ssh_key, paths.host_key, paths.certs / "key.pem")
        yield from (paths.authority / "ca-key.pem", paths.authority / "server-key.pem")


def _text(path: Path) -> str:
    return read_text_tail(path)


def _json(document: object) -> str:
    return json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n"
