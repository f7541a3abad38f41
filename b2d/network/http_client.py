"""A question to a web server: bounded in time, careful with redirects, and its failures in a user's words."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from b2d.errors import DownloadError
from b2d.network.http_watch import TransferTimeouts, TransferWatch, watched_session

REDIRECT_LIMIT = 10
SCHEMES = ("http", "https")
CONTENT_S = 60.0
CONTENT_LIMIT = 8 << 20  # bytes
DETAILS_LIMIT = 500

HINT_AGAIN = "try again in a moment"
HINT_PORTAL = "open any page in a browser: this network may want a login first"
HINT_ADDRESS = "check the address, and whether this host is on the network"
HINT_PROXY = "check http_proxy, https_proxy, all_proxy and no_proxy: b2d speaks HTTP with a proxy, not SOCKS"
HINT_AUTHORITY = (
    "for an authority of your own, set SSL_CERT_FILE to its certificates; this network may want a login, too"
)
HINT_LIMIT = "wait a while: this server limits how often it may be asked"
HINTS = {407: HINT_PROXY, 408: HINT_AGAIN, 429: HINT_LIMIT, 511: HINT_PORTAL}
MEANINGS = {
    401: "wants a user and a password",
    403: "refuses to give it",
    404: "has nothing there",
    407: "is behind a proxy that wants a user and a password",
    410: "has it no more",
    429: "was asked too often",
    511: "cannot be reached before a login to this network",
}
AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
HEADERS = {
    "User-Agent": "b2d",
    "Accept-Encoding": "identity",  # the bytes as they lie there: sizes and ranges are counted in them
}


class TransferInterruptedError(DownloadError):
    """The network or the server failed half-way: the same question may well succeed now."""


class ServerUnavailableError(DownloadError):
    """Nobody could be asked: there is no network, or the server has trouble, or wants to be left alone."""


class ServerTimeoutError(TransferInterruptedError, ServerUnavailableError):
    """It did not answer, and the next may well."""


@dataclass(frozen=True, slots=True)
class Response:
    """A server's answer, its body yet to be read."""

    url: str
    status_code: int
    headers: Mapping[str, str]
    _raw: Any
    _watch: TransferWatch

    def more(self, size: int) -> bytes:
        """The next bytes of the body, at most so many; b"" at its end. Raises Interrupted for one that is too slow."""
        piece: bytes = self._raw.read1(size)  # a read would wait until all of it is there
        if self._watch.late:
            raise TransferInterruptedError(f"{display_url(self.url)} {self._watch.late}", hint=HINT_AGAIN)
        return piece


@contextmanager
def get(
    url: str, headers: Mapping[str, str] | None = None, *, timeouts: TransferTimeouts | None = None
) -> Iterator[Response]:
    """The server's last answer, whatever its status; redirects are followed.

    Raises DownloadError, and Interrupted where to try again is worth it; also for what fails in the block.
    Proxies and authorities are those of the environment: as requests has it, and OpenSSL.
    """
    import requests

    timeouts = timeouts or TransferTimeouts()
    end = time.monotonic() + timeouts.head_s
    for _ in range(REDIRECT_LIMIT):
        _check_scheme(url)
        watch = TransferWatch(timeouts, max(0.0, end - time.monotonic()))
        # a session each: a connection that is used again may have been closed by the server meanwhile
        with _in_time(url, watch), _translate_errors(url), watch.running(), watched_session(watch) as asked:
            asked.verify = _authorities(url)
            asked.headers.update({**HEADERS, **(headers or {})})
            connect_and_read_s = (timeouts.connect_s, timeouts.read_s)
            with asked.get(url, stream=True, timeout=connect_and_read_s, allow_redirects=False) as response:
                watch.begin_body(response.raw.tell)
                target = requests.Session.get_redirect_target(asked, response)
                if target is None:
                    yield Response(response.url, response.status_code, response.headers, response.raw, watch)
                    return
                target = urljoin(url, target)
        url = redirect_target(url, target)
    message = f"{_host(url)} sends from one address to the next without end"
    raise DownloadError(message, hint=HINT_ADDRESS, details=display_url(url))


@contextmanager
def _in_time(url: str, watch: TransferWatch) -> Iterator[None]:
    """Say of a connection that was shut down why it was."""
    try:
        yield
    except DownloadError as error:
        if watch.late:
            kind = TransferInterruptedError if watch.has_begun() else ServerTimeoutError
            raise kind(f"{display_url(url)} {watch.late}", hint=HINT_AGAIN, details=error.details) from error
        raise


def raise_for_status(response: Response) -> None:
    """Raise DownloadError, saying why, for an answer that is not a success."""
    code = response.status_code
    if code in (200, 206):
        return
    sent = response.headers
    spent = code == 403 and (sent.get("X-RateLimit-Remaining") == "0" or "Retry-After" in sent)  # as GitHub says it
    told = 429 if spent else code
    meaning = MEANINGS.get(told, "has trouble itself" if code >= 500 else "says no")
    silent = code == 408 or (code >= 500 and code != 511)
    kind = ServerTimeoutError if silent else ServerUnavailableError if told == 429 else DownloadError
    hint = HINTS.get(told, HINT_AGAIN if code >= 500 else HINT_ADDRESS)
    raise kind(
        f"{_host(response.url)} {meaning} ({code}): {display_url(response.url)}", hint=hint, details=_said(response)
    )


def read_content(response: Response, limit: int = CONTENT_LIMIT) -> bytes:
    """The first `limit` bytes of a short answer. Raises Interrupted when they do not come in time."""
    end = time.monotonic() + CONTENT_S
    had = b""
    while len(had) < limit and (more := response.more(limit - len(had))):
        had += more
        if time.monotonic() > end:
            raise TransferInterruptedError(f"{_host(response.url)} answers too slowly", hint=HINT_AGAIN)
    return had


def _said(response: Response) -> str:
    return read_content(response, DETAILS_LIMIT).decode(errors="replace").strip()


def _check_scheme(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme.lower() in SCHEMES and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound:
        raise DownloadError(f"{url!r} is no address of a web server", hint="one begins with https://")


def redirect_target(url: str, target: str) -> str:
    """The address that an answer of `url` sends to. Raises DownloadError where that one would not be trusted."""
    if _is_https(url) and not _is_https(target):
        raise DownloadError(
            f"{_host(url)} sends from https to {display_url(target)}, where anybody on the way could change what comes",
            hint="give an address that stays on https",
        )
    return target


def _is_https(url: str) -> bool:
    try:
        return urlsplit(url).scheme.lower() == "https"
    except ValueError:  # half an IPv6 address
        return False


def _authorities(url: str) -> str | bool:
    """The certificates that the environment names; True: those that requests brings."""
    name = next((name for name in AUTHORITIES if os.environ.get(name)), "")
    if not name or not _is_https(url):
        return True
    path = os.environ[name]
    if not Path(path).exists():
        raise DownloadError(f"there is no {path}, which {name} names", hint=HINT_AUTHORITY)
    return path


def display_url(url: str) -> str:
    """An address as it may be said: without a password, or what follows its path, which may be as good as one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _host(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or url
    except ValueError:  # half an IPv6 address
        return url


def _through_proxy(url: str) -> bool:
    """True when it is sound itself, and a proxy is to be asked for it."""
    import requests

    try:
        sound = urlsplit(url).port != 0
    except ValueError:
        return False
    return sound and bool(requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)))


def _described(error: Exception, url: str) -> str:
    """What a library says, which may quote the address: without what follows its path."""
    said = str(error)
    try:
        query = urlsplit(url).query
    except ValueError:  # half an IPv6 address
        return ""
    return said.replace(query, "***") if query else said


@contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    """Translate what requests, and urllib3 below it, raise. The more special ones come first."""
    import requests
    import urllib3

    host = _host(url)
    try:
        yield
    except requests.exceptions.ProxyError as error:
        raise ServerUnavailableError(
            "the proxy cannot be used", hint=HINT_PROXY, details=_described(error, url)
        ) from error
    except requests.exceptions.SSLError as error:
        message = f"{host} is not trusted: its certificate does not hold"
        raise DownloadError(message, hint=HINT_AUTHORITY, details=_described(error, url)) from error
    except requests.exceptions.ConnectTimeout as error:
        raise ServerTimeoutError(
            f"{host} does not answer", hint=HINT_ADDRESS, details=_described(error, url)
        ) from error
    except (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise ServerTimeoutError(
            f"{host} has fallen silent", hint=HINT_AGAIN, details=_described(error, url)
        ) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, ValueError) as error:
        if _through_proxy(url):
            raise DownloadError("the proxy cannot be used", hint=HINT_PROXY, details=_described(error, url)) from error
        message = f"{url!r} is no address of a web server, or sends to one that is none"
        raise DownloadError(message, hint=HINT_ADDRESS, details=_described(error, url)) from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise TransferInterruptedError(f"{host} broke off", hint=HINT_AGAIN, details=_described(error, url)) from error
    except requests.exceptions.ConnectionError as error:
        raise ServerTimeoutError(
            f"{host} cannot be reached", hint=HINT_ADDRESS, details=_described(error, url)
        ) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransferInterruptedError(f"{host} broke off", hint=HINT_AGAIN, details=_described(error, url)) from error
