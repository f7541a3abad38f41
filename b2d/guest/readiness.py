"""How far a machine has come: what it wrote on its console, and whether Docker answers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from b2d.docker.client import DockerApi, DockerUnavailableError, read_document

if TYPE_CHECKING:
    from http.client import HTTPResponse

MARK = "b2d: "
FIRST_STAGE = " kernel"
MAX_UPTIME_S = 1e9  # that a guest may say that it runs


@dataclass(frozen=True, slots=True)
class Ping:
    """Docker's answer to /_ping."""

    api_version: str
    date: float | None  # the guest's clock, Unix time, cut to whole seconds


@dataclass(frozen=True, slots=True)
class Engine:
    """What Docker says that it is, and runs on."""

    docker: str  # its version
    linux: str  # the kernel's release
    storage: str  # what its layers are kept with


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the boot that was reached, `uptime_s` after the kernel began."""

    name: str
    uptime_s: float


@dataclass(frozen=True, slots=True)
class BootProblem:
    """Something that the guest warns of; `fatal`: it goes no further."""

    text: str
    fatal: bool


def parse_stages(console: str) -> list[Stage]:
    """The stages that the guest named, in its order. Other output may stand before them on the same line."""
    found = []
    for said in _said(console):
        uptime, _, name = said.partition(" ")
        try:
            found.append(Stage(name.strip(), _uptime(uptime)))
        except ValueError:
            continue
    return found


def find_problems(console: str) -> list[BootProblem]:
    """What the guest warned of, in its order."""
    words = [said.partition(" ") for said in _said(console)]
    return [BootProblem(text.strip(), kind == "fail") for kind, _, text in words if kind in ("warn", "fail")]


def _said(console: str) -> list[str]:
    """What follows the mark since the last boot began, in whole lines: the last one may still be on its way."""
    lines = console.replace("\r", "").split("\n")[:-1]
    said: list[str] = []
    for line in lines:
        if MARK in line:
            word = line.split(MARK, 1)[1]
            if word.endswith(FIRST_STAGE):
                said.clear()
            said.append(word)
    return said


def _uptime(text: str) -> float:
    """Raises ValueError for what is none."""
    found = float(text)
    if not 0 <= found < MAX_UPTIME_S:
        raise ValueError(f"{text!r} is no time since a start")
    return found


def ping(api: DockerApi, timeout_s: float) -> Ping | None:
    """Ask the Docker API once; None when it does not answer."""

    def read(answer: "HTTPResponse") -> Ping | None:
        version = answer.getheader("API-Version")
        return None if version is None else Ping(version, _seconds(answer.getheader("Date")))

    try:
        return api.get("/_ping", timeout_s, read)
    except DockerUnavailableError:
        return None


def engine(api: DockerApi, timeout_s: float) -> Engine | None:
    """What Docker tells of itself; the same otherwise."""

    def read(answer: "HTTPResponse") -> Engine:
        told = read_document(answer)
        return Engine(*(str(told[key]) for key in ("ServerVersion", "KernelVersion", "Driver")))

    try:
        return api.get("/info", timeout_s, read)
    except DockerUnavailableError:
        return None


def _seconds(date: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):  # a year that the clock cannot have
        return None
