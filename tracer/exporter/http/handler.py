# SPDX-License-Identifier: MIT
"""One connection: reads its requests, checks who may ask, and writes the responses.

The checks come in this order: is the request well formed, does its Host header name this machine,
is the client logged in, is the rate limit kept.
"""

import contextlib
import http.client
import logging
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from typing import Any, Protocol, cast

from tracer import __version__
from tracer.exporter.http.connections import Connection, Connections, Step
from tracer.exporter.http.hosts import is_known_host, is_loopback
from tracer.exporter.http.login import Logins
from tracer.exporter.http.refusals import Refusals
from tracer.exporter.http.settings import WebSettings

__all__ = ["Handler", "Request", "Response", "plain", "serve_requests"]

MAX_REQUEST_LINE = 2048
MAX_HEADER_BYTES = 16384
IDLE_SECONDS = (
    90.0  # longer than the usual scrape interval, so that Prometheus keeps its connection
)
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 30.0
EVENT_SECONDS = 10.0
LINGER_SECONDS = 2.0
FAILED_LOGIN_SECONDS = 1.0
_CHUNK_BYTES = 65536
_SEND_BUFFER_BYTES = 262_144
_KERNEL_TIMEOUT_MS = 30_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the path without its query, the headers, and the client's address.

    `client` is the address that limits count by (`tracer.exporter.http.connections.client_of`).
    """

    path: str
    headers: Mapping[str, str]
    client: str


@dataclass(frozen=True, slots=True)
class Response:
    """A response: a body, or a stream of events that ends when the client leaves."""

    content_type: str
    body: bytes = b""
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()
    events: Iterator[bytes] | None = None


Handler = Callable[[Request], Response]


def plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    """A response of one line of text."""
    return Response("text/plain; charset=utf-8", f"{text}\n".encode(), status, headers)


class Site(Protocol):
    """What a connection needs to know of its server."""

    routes: Mapping[str, Handler]
    connections: Connections
    refusals: Refusals
    logins: Logins
    host_names: frozenset[str]

    @property
    def settings(self) -> WebSettings:
        """The web configuration as of now."""


class _Bounded(BufferedIOBase):
    """Reads a request, and no more than `left` bytes of it."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self.left = 0

    def readline(self, size: int | None = -1) -> bytes:  # noqa: ARG002
        line: bytes = self._source.readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise http.client.LineTooLong("header")
        return line

    def wait_for_byte(self) -> bool:
        """Wait until there is something to read; false at the end of the stream."""
        return bool(self._source.peek(1))

    def close(self) -> None:
        self._source.close()
        super().close()


class _HttpConnection(BaseHTTPRequestHandler):
    """The connection of one client, with one request after the other; served when it is made."""

    protocol_version = "HTTP/1.1"
    headers: Message

    def __init__(self, connection: Connection, site: Site) -> None:
        self._connection = connection
        self._site = site
        super().__init__(connection.socket, (connection.address, 0), cast(Any, site))

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # If the peer no longer acknowledges, the kernel closes the connection.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _KERNEL_TIMEOUT_MS)
        # The kernel would let an answer that nobody reads grow to megabytes (tcp_wmem).
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        super().setup()
        self._bounded = _Bounded(self.rfile)
        self.rfile = cast(Any, self._bounded)

    def version_string(self) -> str:
        return f"lunatik-socket/{__version__}"

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)

    def handle_one_request(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client left or was too slow
            if self._read_request():
                self._answer()
                if not self.close_connection:
                    self._expect(Step.IDLE, IDLE_SECONDS)

    def _expect(self, step: Step, seconds: float) -> None:
        self._site.connections.expect(self._connection, step, seconds)

    def _read_request(self) -> bool:
        if not self._bounded.wait_for_byte():
            return False
        self._expect(Step.REQUEST, REQUEST_SECONDS)
        self._bounded.left = MAX_REQUEST_LINE
        try:
            self.raw_requestline = self.rfile.readline()
        except http.client.LineTooLong:
            self.requestline, self.request_version, self.command = "", "HTTP/1.1", ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return False
        self._bounded.left = MAX_HEADER_BYTES
        if not self.parse_request():  # it answers 400, 431 and 505 itself, by send_error
            return False
        if self.request_version == "HTTP/0.9":  # its answers have no status
            self.send_error(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
            return False
        return True

    def _answer(self) -> None:
        settings = self._site.settings
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the body is not read; it must not be taken for a request
        response = self._refusal(settings)
        if response is None:
            self._expect(Step.WORK, ANSWER_SECONDS)
            response = self._respond()
        self._expect(Step.ANSWER, ANSWER_SECONDS)
        self._send(response, settings)
        if response.events is not None and self.command == "GET":
            self._send_events(response.events)

    def _refusal(self, settings: WebSettings) -> Response | None:
        """The response to a request that is not let in; None if it is."""
        if (response := self._refuse_host()) is None and settings.users:
            response = self._refuse_login(settings)
        if response is None and settings.rate is not None and not settings.rate.take():
            self._refused("rate")
            response = plain(HTTPStatus.TOO_MANY_REQUESTS, "too many requests: try again later")
        return response

    def _refuse_host(self) -> Response | None:
        hosts = self.headers.get_all("Host", [])
        if len(hosts) > 1:
            self.close_connection = True
            return plain(HTTPStatus.BAD_REQUEST, "more than one Host header")
        # A browser always sends the header.
        if not hosts or not is_loopback(self.request.getsockname()[0]):
            return None
        if is_known_host(hosts[0], self._site.host_names):
            return None
        self._refused("host")
        text = "this host name is not allowed: ask by IP address, or start with --web.host NAME"
        return plain(HTTPStatus.FORBIDDEN, text)

    def _refuse_login(self, settings: WebSettings) -> Response | None:
        challenge = ("WWW-Authenticate", 'Basic realm="lunatik-socket", charset="UTF-8"')
        header = self.headers.get("Authorization")
        if header is None:
            return plain(HTTPStatus.UNAUTHORIZED, "log in with a name and a password", challenge)
        if self._site.logins.is_right(settings.users, header, lambda: not self._connection.is_shut):
            return None
        if self._connection.is_shut:
            raise ConnectionAbortedError
        self._refused("login")
        self._delay(FAILED_LOGIN_SECONDS)
        self.close_connection = True
        return plain(HTTPStatus.UNAUTHORIZED, "wrong name or password", challenge)

    def _refused(self, reason: str) -> None:
        self._site.refusals.count(reason, self._connection.address)

    def _delay(self, seconds: float) -> None:
        """Wait, but not longer than the connection lasts. It may make way for others meanwhile."""
        self._expect(Step.REQUEST, seconds + REQUEST_SECONDS)
        end = select.poll()
        end.register(self.request, 0)  # without an event only the end of the connection is told
        end.poll(seconds * 1000)

    def _respond(self) -> Response:
        path = self.path.partition("?")[0]
        handler = self._site.routes.get(path)
        if handler is None:
            pages = ", ".join(self._site.routes)
            return plain(HTTPStatus.NOT_FOUND, f"no such page; the pages are {pages}")
        if self.command not in {"GET", "HEAD"}:
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD only", ("Allow", "GET, HEAD"))
        try:
            headers = cast(Mapping[str, str], self.headers)
            return handler(Request(path, headers, self._connection.client))
        except Exception:
            _log.exception("cannot answer %s", path)
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; the log says why")

    def _send(self, response: Response, settings: WebSettings) -> None:
        if response.events is not None:
            self.close_connection = True
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        if response.events is None:
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        headers = {
            "X-Content-Type-Options": "nosniff",
            **dict(response.headers),
            **settings.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._write(response.body)

    def _write(self, body: bytes) -> None:
        """Write it in pieces: an answer that is being read is not an unread one."""
        until = time.monotonic() + ANSWER_SECONDS
        rest = memoryview(body)
        while rest:
            self.wfile.write(rest[:_CHUNK_BYTES])
            rest = rest[_CHUNK_BYTES:]
            if rest:
                self._expect(Step.ANSWER, until - time.monotonic())

    def _send_events(self, events: Iterator[bytes]) -> None:
        for event in events:
            # Each event sets a new deadline: the stream sends an event or a comment before it.
            self._expect(Step.ANSWER, EVENT_SECONDS)
            self.wfile.write(event)
            self._expect(Step.IDLE, EVENT_SECONDS)

    def handle_expect_100(self) -> bool:
        """Do not ask for the body that the client announces: no body is read."""
        return True

    def send_error(
        self,
        code: int,
        message: str | None = None,
        explain: str | None = None,  # noqa: ARG002
    ) -> None:
        """Answer a request that could not be read."""
        status = HTTPStatus(code)
        self.close_connection = True
        self.request_version = "HTTP/1.1"  # else it counts as HTTP/0.9, which has no headers
        self._send(plain(status, message or status.phrase), self._site.settings)
        self._linger()

    def _linger(self) -> None:
        """Read the rest of the request: closing with unread data resets the connection (RST)."""
        self._expect(Step.ANSWER, LINGER_SECONDS)
        socket.socket.shutdown(self.request, socket.SHUT_WR)
        until = time.monotonic() + LINGER_SECONDS
        # Below TLS: these bytes are thrown away, so they need not be decrypted.
        while time.monotonic() < until and socket.socket.recv(self.request, 65536):
            pass


def serve_requests(connection: Connection, site: Site) -> None:
    """Serve the requests of this connection until it ends."""
    _HttpConnection(connection, site)
