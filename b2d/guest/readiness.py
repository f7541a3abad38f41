"""The progress of a boot on the console, and the answers of Docker."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2d.docker.client import DockerApi, DockerUnavailableError, read_document

if TYPE_CHECKING:
    from http.client import HTTPResponse

MARK = "b2d: "
FIRST_STAGE = " kernel"
MAX_UPTIME_S = 1e9  # the longest uptime that a guest may report


@dataclass(frozen=True, slots=True)
class Ping:
    """Docker's answer to /_ping."""

    api_version: str
    date: float | None  # the guest's clock, Unix time, cut to whole seconds


@dataclass(frozen=True, slots=True)
class Engine:
    """The versions that Docker reports."""

    docker: str  # its version
    linux: str  # the kernel's release
    storage: str  # the storage driver


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the boot, reached `uptime_s` after the kernel's start."""

    name: str
    uptime_s: float


@dataclass(frozen=True, slots=True)
class BootProblem:
    """A warning of the guest; after a fatal one it does not continue."""

    text: str
    fatal: bool


def parse_stages(console: str) -> list[Stage]:
    """Return the stages on the console in order; other output may precede them on the same line."""
    stages = []
    for message in _messages(console):
        uptime, _, name = message.partition(" ")
        try:
            stages.append(Stage(name.strip(), _uptime(uptime)))
        except ValueError:
            continue
    return stages


def find_problems(console: str) -> list[BootProblem]:
    """Return the guest's warnings in order."""
    words = [message.partition(" ") for message in _messages(console)]
    return [BootProblem(text.strip(), kind == "fail") for kind, _, text in words if kind in ("warn", "fail")]


def _messages(console: str) -> list[str]:
    """Return the messages since the last boot, from complete lines: the last one may still be incomplete."""
    lines = console.replace("\r", "").split("\n")[:-1]
    messages: list[str] = []
    for line in lines:
        if MARK in line:
            message = line.split(MARK, 1)[1]
            if message.endswith(FIRST_STAGE):
                messages.clear()
            messages.append(message)
    return messages


def _uptime(text: str) -> float:
    """Parse an uptime in seconds. Raises ValueError."""
    seconds = float(text)
    if not 0 <= seconds < MAX_UPTIME_S:
        raise ValueError(f"{text!r} is not an uptime")
    return seconds


def ping(api: DockerApi, timeout_s: float) -> Ping | None:
    """Send one /_ping to Docker; None when it does not answer."""

    def read(response: "HTTPResponse") -> Ping | None:
        version = response.getheader("API-Version")
        return None if version is None else Ping(version, _seconds(response.getheader("Date")))

    try:
        return api.get("/_ping", timeout_s, read)
    except DockerUnavailableError:
        return None


def engine(api: DockerApi, timeout_s: float) -> Engine | None:
    """Return the versions that Docker reports; None when it does not answer."""

    def read(response: "HTTPResponse") -> Engine:
        info = read_document(response)
        return Engine(*(str(info[key]) for key in ("ServerVersion", "KernelVersion", "Driver")))

    try:
        return api.get("/info", timeout_s, read)
    except DockerUnavailableError:
        return None


def _seconds(date: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):  # a year out of range
        return None
