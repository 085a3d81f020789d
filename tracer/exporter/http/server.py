# SPDX-License-Identifier: MIT
"""A small HTTP server that stays available when clients are slow, silent, dead, many or hostile.

It has one thread for each connection, and limits everything that a client can make large or long:
the number of connections, the size of a request, the time to send it, the time to take the answer.
The routes are in `tracer.exporter.http.routes`.
"""

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterable, Mapping

from tracer.exporter.http.connections import Connection, Connections, Step
from tracer.exporter.http.handler import Handler, serve_requests
from tracer.exporter.http.listener import Listener, connections_for_descriptors
from tracer.exporter.http.login import Logins
from tracer.exporter.http.refusals import Refusals
from tracer.exporter.http.settings import WebConfig, WebSettings

__all__ = ["WebServer"]

MAX_CONNECTIONS = 64
FIRST_SECONDS = 5.0
HANDSHAKE_SECONDS = 5.0
_STOP_SECONDS = 30.0
_PLAIN_TEXT = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
)
_USE_HTTPS = b"this port speaks TLS: ask with https://\n"

_log = logging.getLogger(__name__)


class WebServer:
    """Serves `routes` (by path) on the socket `listening` until stopped.

    `host_names` are the names by which clients may ask on loopback. `config` says whether there are
    TLS, passwords and a rate limit.
    """

    def __init__(
        self,
        listening: socket.socket,
        routes: Mapping[str, Handler],
        refusals: Refusals,
        host_names: Iterable[str] = (),
        config: WebConfig | None = None,
    ) -> None:
        self.routes = routes
        self.refusals = refusals
        self.host_names = frozenset(name.lower() for name in host_names)
        self.logins = Logins()
        self._config = config
        host, port = listening.getsockname()[:2]
        self.address: tuple[str, int] = (str(host), int(port))
        self.connections = Connections(connections_for_descriptors(MAX_CONNECTIONS), refusals)
        self._listener = Listener(listening, self.connections, refusals, self._serve, FIRST_SECONDS)

    @property
    def settings(self) -> WebSettings:
        """The web configuration as of now."""
        return WebSettings() if self._config is None else self._config.current

    def stop(self) -> None:
        """Close the port and every connection; returns when all threads have ended."""
        self._listener.stop(_STOP_SECONDS)

    def _serve(self, connection: Connection) -> None:
        try:
            if self._encrypt(connection):
                serve_requests(connection, self)
        except OSError:
            pass  # the client left or was cut
        except Exception:
            _log.exception("a connection of %s failed", connection.address)
        finally:
            _say_goodbye(connection.socket)
            self.connections.close(connection)

    def _encrypt(self, connection: Connection) -> bool:
        """Make the TLS handshake, if there is TLS; false if it failed."""
        settings = self.settings
        if settings.tls is None:
            return True
        self.connections.expect(connection, Step.REQUEST, HANDSHAKE_SECONDS)
        encrypted = self.connections.encrypt(connection, settings.tls)
        try:
            encrypted.do_handshake()
            settings.check_client(encrypted)
        except (OSError, ValueError) as error:
            _log.debug("TLS handshake of %s: %s", connection.address, error)
            if not connection.is_shut:
                self.refusals.count("handshake", connection.address)
            if isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST":
                _answer_plain_text(encrypted)
            return False
        self.connections.expect(connection, Step.REQUEST, FIRST_SECONDS)
        return True


def _answer_plain_text(encrypted: ssl.SSLSocket) -> None:
    """Tell a client that sent a request without TLS what to do, below TLS."""
    with contextlib.suppress(OSError):
        socket.socket.send(encrypted, _PLAIN_TEXT % (len(_USE_HTTPS), _USE_HTTPS))
        socket.socket.shutdown(encrypted, socket.SHUT_WR)


def _say_goodbye(connection: socket.socket) -> None:
    """Tell the peer that this is the end: by TLS's close_notify, or by a FIN.

    Not waiting for its answer, which may never come.
    """
    with contextlib.suppress(OSError, ValueError):
        if isinstance(connection, ssl.SSLSocket):
            connection.setblocking(False)
            connection.unwrap()
        socket.socket.shutdown(connection, socket.SHUT_WR)
