# SPDX-License-Identifier: MIT
"""Any bytes, in pieces of any size: every answer is well formed, and the next client is served."""

import itertools
import logging
import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.pure.tracer.snapshots import snapshot
from tracer.exporter.http.routes import MetricsServer

WAIT_SECONDS = 30
STATUSES = {200, 400, 403, 404, 405, 414, 431, 501, 505}
REQUESTS = (
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip;q=0.5, *\r\n\r\n",
    b"GET /metrics?x=y HTTP/1.0\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /icon.svg HTTP/1.1\r\nConnection: keep-alive\r\nAuthorization: Basic YTpi\r\n\r\n",
)
_PIECES = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\0", b"\r", b" ", b":", b"HTTP/1.1", b"HTTP/9999999999.1"),
    *(
        b"GET",
        b"\xff\xfe",
        b"Host: [",
        b"Host:\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"//",
        b"%",
    ),
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"a" * 3000,
    b"Expect: 100-continue\r\n",
)


@pytest.fixture(scope="module")
def server() -> Iterator[MetricsServer]:
    with MetricsServer(("127.0.0.1", 0), snapshot) as running:
        yield running


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Requests, one after another, each with some bytes replaced, removed or put in."""
    stream = b""
    for request in draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3)):
        changed = request
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(changed)))
            end = min(len(changed), start + draw(st.integers(0, 6)))
            piece = draw(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=8)))
            changed = changed[:start] + piece + changed[end:]
        stream += changed
    return stream


def answers(stream: bytes) -> Iterator[int]:
    """The status of each answer; fails if one is not well formed. Bodies of HEAD are not there."""
    while stream:
        head, blank, rest = stream.partition(b"\r\n\r\n")
        assert blank, f"no whole head: {stream[:200]!r}"
        lines = head.split(b"\r\n")
        found = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [ -~]+", lines[0])
        assert found, lines[0]
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        length = int(headers.get(b"Content-Length", b"0"))
        # The answer to a HEAD request has a length and no body: the next answer or the end follows.
        stream = rest if not rest or rest.startswith(b"HTTP/1.1 ") else rest[length:]
        yield int(found[1])


@settings(max_examples=150)
@example(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n", [])
@given(stream=streams(), cuts=st.lists(st.integers(0, 400), max_size=5))
def test_any_stream_split_anywhere_gets_well_formed_answers(
    server: MetricsServer, stream: bytes, cuts: list[int]
) -> None:
    records: list[logging.LogRecord] = []
    watcher = logging.Handler(logging.ERROR)
    watcher.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("tracer.exporter").addHandler(watcher)
    try:
        received = exchange(server, stream, cuts)
    finally:
        logging.getLogger("tracer.exporter").removeHandler(watcher)
    assert set(answers(received)) <= STATUSES
    assert [record.getMessage() for record in records] == []
    assert list(answers(exchange(server, REQUESTS[0], []))) == [200]


def exchange(server: MetricsServer, stream: bytes, cuts: list[int]) -> bytes:
    """Send the stream in pieces, and then the end; return all that is received."""
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    with socket.create_connection(server.address, WAIT_SECONDS) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for start, end in itertools.pairwise(bounds):
                client.sendall(stream[start:end])
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server has answered and closed
        received = b""
        try:
            while piece := client.recv(65536):
                received += piece
        except ConnectionResetError:
            pass  # it closed while bytes were on their way to it
    return received
