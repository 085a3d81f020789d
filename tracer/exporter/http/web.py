# SPDX-License-Identifier: MIT
"""A small HTTP server that stays available when clients are slow, silent, dead or many.

It has one thread for each connection, and limits everything that a client can make large or long:
the number of connections, the size of a request, the time to send it, the time to take the answer.
The routes are in `tracer.exporter.http.server`.
"""

import contextlib
import http.client
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from socketserver import BaseServer, TCPServer
from threading import Thread
from typing import Any, cast

from tracer import __version__
from tracer.errors import TracerError
from tracer.exporter.http.connections import Connections

__all__ = ["Request", "Response", "WebServer", "listen"]

MAX_CONNECTIONS = 64
MAX_REQUEST_LINE = 2048
MAX_HEADER_BYTES = 16384
IDLE_SECONDS = (
    90.0  # longer than the usual scrape interval, so that Prometheus keeps its connection
)
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 30.0
EVENT_SECONDS = 10.0
LINGER_SECONDS = 2.0
_REAP_INTERVAL = 0.25
_BACKLOG = 128
_KERNEL_TIMEOUT_MS = 30_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the path without its query, and the headers."""

    path: str
    headers: Mapping[str, str]


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


class WebServer:
    """Serves `routes` (by path) on a listening socket until stopped."""

    def __init__(self, listener: socket.socket, routes: Mapping[str, Handler]) -> None:
        self._server = _Server(listener, routes)
        self._thread = Thread(
            target=self._server.serve_forever, args=(_REAP_INTERVAL,), name="metrics", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """The address it listens on."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def stop(self) -> None:
        """Close the port and every connection; returns when all threads have ended."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens on `address`; raises TracerError if there is none."""
    host, port = address
    try:
        family, *_, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)
            stack.pop_all()
            return listener
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise _named(error, shown) from None


def _named(error: OSError, address: str) -> TracerError:
    if isinstance(error, socket.gaierror):
        return TracerError(
            "serve metrics on", address, error.strerror, hint="give --metrics ADDR:PORT"
        )
    return TracerError(
        "serve metrics on", address, errno=error.errno, hint="choose another with --metrics"
    )


class _Server(TCPServer):
    def __init__(self, listener: socket.socket, routes: Mapping[str, Handler]) -> None:
        self.routes = routes
        self.connections = Connections(MAX_CONNECTIONS)
        self._threads: set[Thread] = set()
        where = listener.getsockname()
        # Not TCPServer's, which makes a socket of its own.
        BaseServer.__init__(self, where, _Connection)
        self.socket = listener

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.connections.admit(request, REQUEST_SECONDS):
            _log.warning("too many connections (%d): one refused", MAX_CONNECTIONS)
            self.shutdown_request(request)
            return
        # Daemon threads: if the main thread fails, the process must not wait for a client.
        thread = Thread(
            target=self._serve, args=(request, client_address), name="scrape", daemon=True
        )
        self._threads.add(thread)
        thread.start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except Exception:
            _log.debug("a connection of %s ended", client_address, exc_info=True)
        finally:
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        self.connections.forget(request)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        self.connections.shut_overdue()
        self._threads = {thread for thread in self._threads if thread.is_alive()}

    def server_close(self) -> None:
        super().server_close()
        self.connections.shut_all()
        for thread in self._threads:
            thread.join(ANSWER_SECONDS)


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

    def close(self) -> None:
        self._source.close()
        super().close()


class _Connection(BaseHTTPRequestHandler):
    """The connection of one client, with one request after the other."""

    protocol_version = "HTTP/1.1"
    server: _Server
    headers: Message

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # If the peer no longer acknowledges, the kernel closes the connection.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _KERNEL_TIMEOUT_MS)
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
                    self.server.connections.expect(self.request, IDLE_SECONDS, idle=True)

    def _read_request(self) -> bool:
        self._bounded.left = MAX_REQUEST_LINE
        try:
            self.raw_requestline = self.rfile.readline()
        except http.client.LineTooLong:
            self.requestline, self.request_version, self.command = "", "HTTP/1.1", ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return False
        if not self.raw_requestline:
            return False
        self.server.connections.expect(self.request, REQUEST_SECONDS)
        self._bounded.left = MAX_HEADER_BYTES
        return self.parse_request()  # answers 400, 431 and 505 itself, by send_error

    def _answer(self) -> None:
        self.server.connections.expect(self.request, ANSWER_SECONDS)
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # the body is not read; it must not be taken for a request
        response = self._respond()
        self._send(response)
        if response.events is not None and self.command == "GET":
            self._send_events(response.events)

    def _respond(self) -> Response:
        path = self.path.partition("?")[0]
        handler = self.server.routes.get(path)
        if handler is None:
            return plain(
                HTTPStatus.NOT_FOUND, f"no such page; the pages are {', '.join(self.server.routes)}"
            )
        if self.command not in {"GET", "HEAD"}:
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD only", ("Allow", "GET, HEAD"))
        try:
            return handler(Request(path, self.headers))  # type: ignore[arg-type]
        except Exception:
            _log.exception("cannot answer %s", path)
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed; the log says why")

    def _send(self, response: Response) -> None:
        if response.events is not None:
            self.close_connection = True
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        if response.events is None:
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in response.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def _send_events(self, events: Iterator[bytes]) -> None:
        for event in events:
            # Each event sets a new deadline: the stream sends an event or a comment before it.
            self.server.connections.expect(self.request, EVENT_SECONDS)
            self.wfile.write(event)

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
        self._send(plain(status, message or status.phrase))
        self._linger()

    def _linger(self) -> None:
        """Read the rest of the request: closing with unread data resets the connection (RST)."""
        self.server.connections.expect(self.request, LINGER_SECONDS)
        self.request.shutdown(socket.SHUT_WR)
        until = time.monotonic() + LINGER_SECONDS
        while time.monotonic() < until and self.request.recv(65536):
            pass
