# SPDX-License-Identifier: MIT
"""The open connections, their deadlines, and which of them makes way for a new one.

The time-out of a socket limits each read and each write, but not their sum: a client that sends one
byte every few seconds would keep its thread for ever. So every connection has a deadline for its
current step, and the listener's thread shuts down the connections whose deadline has passed.

Deadlines are not enough against a client that opens new connections as fast as the old ones are
cut. So when there is no room, a new connection replaces an old one instead of being refused:

- An address may have three quarters of all connections. The rest is for other addresses.
- An address with that many loses one of its own; when all places are taken, the address with the
  most connections loses one.
- First goes the connection that has been in a request or an answer for more than a second, then the
  one that has been idle longest, then the oldest of the others.
- No connection makes way while its answer is being computed, nor in its first 50 ms: a client
  that sends its request at once is always served.
"""

import contextlib
import ipaddress
import socket
import ssl
import time
from collections import Counter
from enum import Enum
from threading import Condition

from tracer.exporter.http.refusals import Refusals

__all__ = ["Connection", "Connections", "Step", "client_of"]

SLOW_SECONDS = 1.0
GRACE_SECONDS = 0.05
PATIENCE_SECONDS = 1.0
_POLL_SECONDS = 0.005
_IPV6_SITE_BITS = 64  # what one customer or one machine commonly gets


class Step(Enum):
    """What a connection waits for."""

    REQUEST = "the client, in the middle of a handshake, a request or a log-in"
    IDLE = "the client, between two requests"
    WORK = "this process, which makes the answer"
    ANSWER = "the client, which must read the answer"


class Connection:
    """One client's connection; `client` is what the limits per address count by."""

    def __init__(self, accepted: socket.socket, address: str, seconds: float) -> None:
        self.socket = accepted
        self.address = address
        self.client = client_of(address)
        self.is_shut = False
        self.begun = time.monotonic()
        self.set_step(Step.REQUEST, seconds)

    def set_step(self, step: Step, seconds: float) -> None:
        """Begin a step that may take `seconds`."""
        self.step = step
        self.since = time.monotonic()
        self.deadline = self.since + seconds

    def rank(self, now: float) -> tuple[int, float]:
        """The lowest rank makes way first."""
        if self.step is Step.IDLE:
            return (1, self.since)
        return (0 if now - self.since > SLOW_SECONDS else 2, self.since)


def client_of(address: str) -> str:
    """The address; for IPv6 the network of 64 bits, because a client has all of its addresses."""
    with contextlib.suppress(ValueError):
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(parsed, ipaddress.IPv6Address):
            if parsed.ipv4_mapped:
                return str(parsed.ipv4_mapped)
            return str(ipaddress.IPv6Network((parsed, _IPV6_SITE_BITS), strict=False))
    return address


class Connections:
    """The open connections, at most `limit`."""

    def __init__(self, limit: int, refusals: Refusals) -> None:
        self._limit = limit
        self._per_client = max(1, limit * 3 // 4)
        self._refusals = refusals
        self._open: dict[Connection, None] = {}
        # Shut down, but their threads have not yet closed them: a bound on threads and descriptors.
        self._closing: set[Connection] = set()
        self._max_closing = max(2, limit // 4)
        self._changed = Condition()

    def admit(self, connection: Connection) -> bool:
        """Add a connection, after making room for it; false if there is none for a second."""
        until = time.monotonic() + PATIENCE_SECONDS
        with self._changed:
            while not self._has_room_for(connection):
                if time.monotonic() > until:
                    return False
                self._changed.wait(_POLL_SECONDS)
            self._open[connection] = None
            return True

    def make_room(self) -> None:
        """Shut down one connection, because the process has no descriptor left."""
        with self._changed:
            if not self._closing:
                self._evict(list(self._open))

    def expect(self, connection: Connection, step: Step, seconds: float) -> None:
        """Begin a step of this connection, which may take `seconds`."""
        with self._changed:
            # If it was evicted meanwhile, its socket is shut down and its next call will fail.
            connection.set_step(step, seconds)

    def encrypt(self, connection: Connection, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Replace the connection's socket by one that speaks TLS; the handshake comes later."""
        with self._changed:  # so that nobody shuts down the old one, which loses its descriptor
            encrypted = context.wrap_socket(
                connection.socket, server_side=True, do_handshake_on_connect=False
            )
            connection.socket = encrypted
            return encrypted

    def close(self, connection: Connection) -> None:
        """Close a connection and forget it."""
        with self._changed:
            connection.is_shut = True
            self._open.pop(connection, None)
            self._closing.discard(connection)
            connection.socket.close()

    def shut_overdue(self) -> None:
        """Shut down every connection whose deadline has passed."""
        now = time.monotonic()
        with self._changed:
            for connection in [one for one in self._open if one.deadline < now]:
                self._shut(connection)

    def shut_all(self) -> None:
        """Shut down every connection."""
        with self._changed:
            for connection in list(self._open):
                self._shut(connection)

    def __len__(self) -> int:
        return len(self._open)

    def _has_room_for(self, newcomer: Connection) -> bool:
        if len(self._closing) >= self._max_closing:
            return False
        clients = Counter(connection.client for connection in self._open)
        if clients[newcomer.client] >= self._per_client:
            return self._evict([one for one in self._open if one.client == newcomer.client])
        if len(self._open) < self._limit:
            return True
        most = max(clients.values())
        return self._evict([one for one in self._open if clients[one.client] == most])

    def _evict(self, candidates: list[Connection]) -> bool:
        now = time.monotonic()
        replaceable = [
            one
            for one in candidates
            if one.step is not Step.WORK and now - one.begun >= GRACE_SECONDS
        ]
        if not replaceable:
            return False
        chosen = min(replaceable, key=lambda one: one.rank(now))
        self._shut(chosen)
        self._refusals.count("room", chosen.address)
        return True

    def _shut(self, connection: Connection) -> None:
        """End every blocking call of its thread, which then closes the descriptor."""
        del self._open[connection]
        self._closing.add(connection)
        connection.is_shut = True
        with contextlib.suppress(OSError):
            # SSLSocket.shutdown would first forget the TLS state, and the connection's thread
            # would send what it is about to send as plain text.
            socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)
