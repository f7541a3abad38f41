"""How far a machine has come: what it wrote on its console, and whether Docker answers."""

from dataclasses import dataclass
from pathlib import Path

MARK = "b2d: "
FIRST_STAGE = " kernel"


@dataclass(frozen=True, slots=True)
class Ping:
    """Docker's answer to /_ping."""

    api_version: str
    date: float | None  # the guest's clock, Unix time, cut to whole seconds


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the boot that was reached, `uptime_s` after the kernel began."""

    name: str
    uptime_s: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that the guest warns of; `fatal`: it goes no further."""

    text: str
    fatal: bool


def stages(console: str) -> list[Stage]:
    """The stages that the guest named, in its order. Other output may stand before them on the same line."""
    found = []
    for said in _said(console):
        uptime, _, name = said.partition(" ")
        try:
            found.append(Stage(name.strip(), float(uptime)))
        except ValueError:
            continue
    return found


def troubles(console: str) -> list[Trouble]:
    """What the guest warned of, in its order."""
    words = [said.partition(" ") for said in _said(console)]
    return [Trouble(text.strip(), kind == "fail") for kind, _, text in words if kind in ("warn", "fail")]


def _said(console: str) -> list[str]:
    """What follows the mark since the last boot began, in whole lines: the last one may still be on its way."""
    lines = console.replace("\r", "").split("\n")[:-1]
    said: list[str] = []
    for line in lines:
        if MARK in line:
            word = line.split(MARK, 1)[1]
            said = [word] if word.endswith(FIRST_STAGE) else [*said, word]
    return said


def ping(address: str, port: int, certs: Path | None, timeout_s: float) -> Ping | None:
    """Ask the Docker API once, with a client certificate if there is one; None when it does not answer.

    Never takes longer than `timeout_s` for each of connecting, greeting and answering. No proxy is asked.
    """
    import ssl
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    try:
        if certs is None:
            connection = HTTPConnection(address, port, timeout=timeout_s)
        else:
            context = ssl.create_default_context(cafile=str(certs / "ca.pem"))
            context.load_cert_chain(certs / "cert.pem", certs / "key.pem")
            connection = HTTPSConnection(address, port, timeout=timeout_s, context=context)
        try:
            connection.request("GET", "/_ping")
            answer = connection.getresponse()
            version = answer.getheader("API-Version")
            if answer.status != 200 or version is None:
                return None
            return Ping(version, _seconds(answer.getheader("Date")))
        finally:
            connection.close()
    except (OSError, HTTPException):  # TLS errors are OSErrors
        return None


def _seconds(date: str | None) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
