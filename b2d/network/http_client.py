"""HTTP requests with time limits, safe redirects, and errors with messages for users."""

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
HINT_PORTAL = "open any page in a browser: this network may require a login"
HINT_ADDRESS = "check the address and the network of this host"
HINT_PROXY = "check http_proxy, https_proxy, all_proxy and no_proxy: b2d supports HTTP proxies, not SOCKS"
HINT_AUTHORITY = (
    "for an authority of your own, set SSL_CERT_FILE to its certificates; this network may also require a login"
)
HINT_LIMIT = "wait a while: this server limits the number of requests"
HINTS = {407: HINT_PROXY, 408: HINT_AGAIN, 429: HINT_LIMIT, 511: HINT_PORTAL}
MEANINGS = {
    401: "requires a user and a password",
    403: "refuses access",
    404: "has no such file",
    407: "is behind a proxy that requires a user and a password",
    410: "no longer has the file",
    429: "received too many requests",
    511: "cannot be reached before a login to this network",
}
AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
HEADERS = {
    "User-Agent": "b2d",
    "Accept-Encoding": "identity",  # sizes and ranges count the stored bytes
}


class TransferInterruptedError(DownloadError):
    """The network or the server failed half-way; repeating the request may succeed."""


class ServerUnavailableError(DownloadError):
    """No server could be reached: no network, a failing server, or one that limits requests."""


class ServerTimeoutError(TransferInterruptedError, ServerUnavailableError):
    """A server that did not answer; repeating the request later may succeed."""


class ServerFailureError(TransferInterruptedError, ServerUnavailableError):
    """A server that answered with an error of its own (5xx); repeating the request may succeed."""


@dataclass(frozen=True, slots=True)
class Response:
    """A server's response with an unread body."""

    url: str
    status_code: int
    headers: Mapping[str, str]
    _raw: Any
    _watch: TransferWatch

    def read_some(self, size: int) -> bytes:
        """Return the next bytes of the body, at most `size`; b"" at its end.

        Raises TransferInterruptedError for a body that comes too slowly.
        """
        chunk: bytes = self._raw.read1(size)  # read() would wait for all of it
        if self._watch.late:
            raise TransferInterruptedError(f"{display_url(self.url)} {self._watch.late}", hint=HINT_AGAIN)
        return chunk


@contextmanager
def get(
    url: str, headers: Mapping[str, str] | None = None, *, timeouts: TransferTimeouts | None = None
) -> Iterator[Response]:
    """Yield the final response, whatever its status, after following redirects.

    Raises DownloadError, and TransferInterruptedError where a retry may help, also for failures in the block. Proxies
    and authorities are those of the environment, as for requests and OpenSSL.
    """
    import requests

    timeouts = timeouts or TransferTimeouts()
    end = time.monotonic() + timeouts.head_s
    for _ in range(REDIRECT_LIMIT):
        _check_scheme(url)
        watch = TransferWatch(timeouts, max(0.0, end - time.monotonic()))
        # a session for each request: the server may have closed a connection that is reused
        with (
            _translated_timeout(url, watch),
            _translate_errors(url),
            watch.running(),
            watched_session(watch) as session,
        ):
            session.verify = _authorities(url)
            session.headers.update({**HEADERS, **(headers or {})})
            connect_and_read_s = (timeouts.connect_s, timeouts.read_s)
            with session.get(url, stream=True, timeout=connect_and_read_s, allow_redirects=False) as response:
                watch.begin_body(response.raw.tell)
                target = requests.Session.get_redirect_target(session, response)
                if target is None:
                    yield Response(response.url, response.status_code, response.headers, response.raw, watch)
                    return
                target = urljoin(url, target)
        url = redirect_target(url, target)
    message = f"{_host(url)} redirects without end"
    raise DownloadError(message, hint=HINT_ADDRESS, details=display_url(url))


@contextmanager
def _translated_timeout(url: str, watch: TransferWatch) -> Iterator[None]:
    """Translate the error of a connection that the watch shut down."""
    try:
        yield
    except DownloadError as error:
        if watch.late:
            kind = TransferInterruptedError if watch.has_begun() else ServerTimeoutError
            raise kind(f"{display_url(url)} {watch.late}", hint=HINT_AGAIN, details=error.details) from error
        raise


def raise_for_status(response: Response) -> None:
    """Raise DownloadError with the reason for a response that is not a success."""
    code = response.status_code
    if code in (200, 206):
        return
    headers = response.headers
    # GitHub's way to limit requests
    is_limited = code == 403 and (headers.get("X-RateLimit-Remaining") == "0" or "Retry-After" in headers)
    effective = 429 if is_limited else code
    meaning = MEANINGS.get(effective, "has an internal error" if code >= 500 else "refuses the request")
    is_failure = code == 408 or (code >= 500 and code != 511)
    kind = ServerFailureError if is_failure else ServerUnavailableError if effective == 429 else DownloadError
    hint = HINTS.get(effective, HINT_AGAIN if code >= 500 else HINT_ADDRESS)
    raise kind(
        f"{_host(response.url)} {meaning} ({code}): {display_url(response.url)}",
        hint=hint,
        details=_body_excerpt(response),
    )


def read_content(response: Response, limit: int = CONTENT_LIMIT) -> bytes:
    """Return the first `limit` bytes of a short response. Raises TransferInterruptedError for a slow one."""
    end = time.monotonic() + CONTENT_S
    content = b""
    while len(content) < limit and (chunk := response.read_some(limit - len(content))):
        content += chunk
        if time.monotonic() > end:
            raise TransferInterruptedError(f"{_host(response.url)} responds too slowly", hint=HINT_AGAIN)
    return content


def _body_excerpt(response: Response) -> str:
    return read_content(response, DETAILS_LIMIT).decode(errors="replace").strip()


def _check_scheme(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme.lower() in SCHEMES and bool(parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise DownloadError(f"{url!r} is not a web address", hint="use an address that begins with https://")


def redirect_target(url: str, target: str) -> str:
    """Return the target of a redirect from `url`. Raises DownloadError for one from https to http."""
    if _is_https(url) and not _is_https(target):
        raise DownloadError(
            f"{_host(url)} redirects from https to {display_url(target)}, where anyone on the path can change the file",
            hint="use an address that stays on https",
        )
    return target


def _is_https(url: str) -> bool:
    try:
        return urlsplit(url).scheme.lower() == "https"
    except ValueError:  # an unclosed IPv6 address
        return False


def _authorities(url: str) -> str | bool:
    """Return the file of certificates in the environment; True for those of requests."""
    name = next((name for name in AUTHORITIES if os.environ.get(name)), "")
    if not name or not _is_https(url):
        return True
    path = os.environ[name]
    if not Path(path).exists():
        raise DownloadError(f"{path}, which is set in {name}, does not exist", hint=HINT_AUTHORITY)
    return path


def display_url(url: str) -> str:
    """Return an address for output: without a password, a query or a fragment, which may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _host(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2] or url
    except ValueError:  # an unclosed IPv6 address
        return url


def _through_proxy(url: str) -> bool:
    """Return whether the address is valid, and requests for it go through a proxy."""
    import requests

    try:
        is_valid = urlsplit(url).port != 0
    except ValueError:
        return False
    return is_valid and bool(requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)))


def _details(error: Exception, url: str) -> str:
    """Return a library's message without the query of the address, which may be secret."""
    message = str(error)
    try:
        query = urlsplit(url).query
    except ValueError:  # an unclosed IPv6 address
        return ""
    return message.replace(query, "***") if query else message


@contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    """Translate the errors of requests, and of urllib3 below it; the more specific ones come first."""
    import requests
    import urllib3

    host = _host(url)
    try:
        yield
    except requests.exceptions.ProxyError as error:
        raise ServerUnavailableError(
            "the proxy cannot be used", hint=HINT_PROXY, details=_details(error, url)
        ) from error
    except requests.exceptions.SSLError as error:
        message = f"{host} is not trusted: its certificate is not valid"
        raise DownloadError(message, hint=HINT_AUTHORITY, details=_details(error, url)) from error
    except requests.exceptions.ConnectTimeout as error:
        raise ServerTimeoutError(f"{host} does not respond", hint=HINT_ADDRESS, details=_details(error, url)) from error
    except (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise ServerTimeoutError(f"{host} stopped responding", hint=HINT_AGAIN, details=_details(error, url)) from error
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, ValueError) as error:
        if _through_proxy(url):
            raise DownloadError("the proxy cannot be used", hint=HINT_PROXY, details=_details(error, url)) from error
        message = f"{url!r} is not a web address, or redirects to an invalid one"
        raise DownloadError(message, hint=HINT_ADDRESS, details=_details(error, url)) from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise TransferInterruptedError(
            f"{host} closed the connection early", hint=HINT_AGAIN, details=_details(error, url)
        ) from error
    except requests.exceptions.ConnectionError as error:
        raise ServerTimeoutError(
            f"{host} cannot be reached", hint=HINT_ADDRESS, details=_details(error, url)
        ) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise TransferInterruptedError(
            f"{host} closed the connection early", hint=HINT_AGAIN, details=_details(error, url)
        ) from error
