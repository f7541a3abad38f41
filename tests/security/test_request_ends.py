"""The guard of a Docker without TLS and Go's server behind it agree on the end of each request."""

import pytest

from b2d.host_agent.http_guard import HttpGuard, RefusedRequestError

BEGIN = b"POST /build HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
INNER = b"GET /info HTTP/1.1\r\nHost: rebound.example\r\nOrigin: http://rebound.example\r\n\r\n"
FOR_GUARD = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(INNER), INNER)


@pytest.mark.parametrize(
    "sent",
    [
        BEGIN + b"0\r\nX:" + FOR_GUARD,  # a trailer that looks like the start of the next request
        BEGIN + b"0\r\nX: y\r\n\r\n",
        BEGIN + b"3\r\nabcXX0\r\n\r\n",
        BEGIN + b"3\r\nabcd\r\n0\r\n\r\n",
        BEGIN + b"3\r\nabc\n\n0\r\n\r\n",
        BEGIN.replace(b"1.1", b"1.0") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(INNER), INNER),
        BEGIN.replace(b" chunked", b" \xa0chunked") + b"0\r\n\r\n",
        FOR_GUARD.replace(b"Length: ", b"Length: \x85"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_a_request_that_go_would_end_elsewhere_is_refused(sent: bytes, step: int) -> None:
    guard = HttpGuard(["localhost"])
    with pytest.raises(RefusedRequestError):
        for place in range(0, len(sent), step):
            guard.check(sent[place : place + step])


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1 << 16])
def test_chunks_and_the_data_after_them_are_passed(step: int) -> None:
    sent = 2 * (BEGIN + b"5;a=b\r\nab\r\nc\r\n1 \r\nd\r\n000\r\n\r\n" + FOR_GUARD)
    guard = HttpGuard(["localhost"])
    assert b"".join(guard.check(sent[place : place + step]) for place in range(0, len(sent), step)) == sent
