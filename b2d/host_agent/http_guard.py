"""A guard of HTTP requests to a Docker without TLS: it refuses what browsers send for web pages.

Any page can make a browser send a request to a loopback address: a simple POST without preflight, or, by a name that is
rebound to 127.0.0.1, a request whose answer it may read. Such requests carry Origin, Referer or Sec-Fetch-*, of which
no page can suppress all, or a foreign Host.

Source of the format: RFC 9112 (HTTP/1.1 messages), RFC 9110 (Upgrade); Fetch Standard (headers of requests).
"""

import re
from collections.abc import Collection

HEAD_LIMIT = 1 << 16  # bytes of a request's line and headers
LINE_LIMIT = 1 << 12  # bytes of the line that begins a chunk
LENGTH_DIGITS = 18
END = b"\r\n\r\n"
BROWSER_HEADERS = ("origin", "referer", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "sec-fetch-user")
REQUEST = re.compile(rb"[A-Z]{1,20} [/*][\x21-\x7e]* HTTP/1\.[01]")
HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\x20-\x7e\x80-\xff\t]*)")
HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::\d{1,5})?")
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\x20-\x7e]*)?")
REFUSAL = (
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
)
MESSAGE = b'{"message":"b2d: this Docker is for programs of its owner, and not for web pages"}\n'


class RefusedRequestError(OSError):
    """A request that no Docker client sends."""


def forbidden_response() -> bytes:
    """Return the answer to a request that is refused."""
    return REFUSAL % (len(MESSAGE), MESSAGE)


class HttpGuard:
    """The requests of one connection, in order; `hosts` are the names that Host may have."""

    def __init__(self, hosts: Collection[str]) -> None:
        """Start at the head of a request."""
        self._hosts = frozenset(hosts)
        self._buffer = b""  # part of a head, or of a line between chunks
        self._left = 0  # remaining bytes of the body or chunk
        self._chunks = False  # the body is chunked
        self._begun = self._last = False  # within a chunk; within the last one
        self._raw = False  # Docker's own streams follow a request with Upgrade

    def check(self, data: bytes) -> bytes:
        """Return the part of `data` that may be forwarded: only whole heads are. Raises RefusedRequestError."""
        passed = bytearray()
        while data:
            if self._left:
                passed += data[: self._left]
                data, self._left = data[self._left :], max(0, self._left - len(data))
            elif self._chunks:
                data = self._gather(data, b"\r\n", LINE_LIMIT, passed)
            elif self._raw:
                return bytes(passed) + data
            else:
                data = self._gather(data, END, HEAD_LIMIT, passed)
        return bytes(passed)

    def _gather(self, data: bytes, end: bytes, limit: int, passed: bytearray) -> bytes:
        """Collect bytes up to `end`, and check them; return the bytes after it."""
        buffer = self._buffer + data
        content, separator, rest = buffer.partition(end)
        if not separator:
            if len(buffer) > limit:
                raise RefusedRequestError("the request has no end")
            self._buffer = buffer
            return b""
        if len(content) > limit:
            raise RefusedRequestError("the request is too long")
        self._buffer = b""
        if self._begun:
            self._end_chunk(content)
        elif self._chunks:
            self._begin_chunk(content)
        else:
            self._begin_request(content)
        passed += content + separator
        return rest

    def _begin_chunk(self, line: bytes) -> None:
        size = CHUNK.fullmatch(line)
        if size is None:
            raise RefusedRequestError("a chunk has no size")
        self._left = int(size[1], 16)
        self._begun, self._last = True, not self._left

    def _end_chunk(self, rest: bytes) -> None:
        """Check the end of a chunk, and refuse trailers.

        After a trailer, the next request would begin elsewhere for Docker than for this guard.
        """
        if rest:
            raise RefusedRequestError("a chunk is longer than its size, or has a trailer")
        self._begun, self._chunks = False, not self._last

    def _begin_request(self, head: bytes) -> None:
        line, *lines = head.split(b"\r\n")
        if REQUEST.fullmatch(line) is None:
            raise RefusedRequestError("not an HTTP request")
        headers: dict[str, list[str]] = {}
        for text in lines:
            header = HEADER.fullmatch(text)
            if header is None:
                raise RefusedRequestError("an invalid header")
            headers.setdefault(header[1].decode().lower(), []).append(header[2].decode("latin-1").strip(" \t"))
        self._check_sender(headers)
        self._expect_body(headers, line.endswith(b"1.1"))

    def _check_sender(self, headers: dict[str, list[str]]) -> None:
        sent = [name for name in BROWSER_HEADERS if name in headers]
        if sent:
            raise RefusedRequestError(f"the request has {', '.join(sent)}, as browsers send for web pages")
        hosts = headers.get("host", [])
        name = HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if name is None or name[1] not in self._hosts:
            raise RefusedRequestError(f"the request is for the host {', '.join(hosts)[:100]!r}")

    def _expect_body(self, headers: dict[str, list[str]], knows_chunks: bool) -> None:
        coding, lengths = headers.get("transfer-encoding", []), headers.get("content-length", [])
        if coding and (lengths or [text.lower() for text in coding] != ["chunked"]):
            raise RefusedRequestError("the body has two lengths")
        if coding and not knows_chunks:  # Go ignores that header in HTTP/1.0
            raise RefusedRequestError("the body is chunked in HTTP/1.0")
        if len(lengths) > 1 or any(not text.isdecimal() or len(text) > LENGTH_DIGITS for text in lengths):
            raise RefusedRequestError("the body has no valid length")
        self._chunks = bool(coding)
        self._left = int(lengths[0]) if lengths else 0
        self._raw = "upgrade" in headers
