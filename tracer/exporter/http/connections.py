# SPDX-License-Identifier: MIT
"""Who is connected, and until when: what keeps one client from harming another.

A socket's own time-out bounds each read and each write, but not their sum: a client that sends one
byte every few seconds keeps its thread for ever. So every connection has a deadline for what it is
at, kept here, and one thread shuts down those that are overdue.
"""

import contextlib
import socket
import time
from dataclasses import dataclass
from threading import Lock

__all__ = ["Connections"]


@dataclass(slots=True)
class _State:
    deadline: float
    idle: bool


class Connections:
    """The open connections, at most `limit`.

    When there is no room for another, the one that has been waiting longest for its client to ask
    something makes way.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._states: dict[socket.socket, _State] = {}
        self._lock = Lock()

    def admit(self, connection: socket.socket, seconds: float) -> bool:
        """Take a new connection in, idle for `seconds` at most; false if all others are busy."""
        with self._lock:
            if len(self._states) >= self._limit and not self._evict():
                return False
            self._states[connection] = _State(time.monotonic() + seconds, idle=True)
            return True

    def expect(self, connection: socket.socket, seconds: float, *, idle: bool = False) -> None:
        """Give it `seconds` from now for what it does next."""
        with self._lock:
            # Gone already if it was evicted meanwhile: its socket is shut, its next call will tell.
            if self._states.pop(connection, None):
                self._states[connection] = _State(time.monotonic() + seconds, idle)

    def forget(self, connection: socket.socket) -> None:
        """Drop it: it is closed."""
        with self._lock:
            self._states.pop(connection, None)

    def shut_overdue(self) -> None:
        """Shut down all whose time is up."""
        now = time.monotonic()
        with self._lock:
            for connection in [c for c, state in self._states.items() if state.deadline < now]:
                self._shut(connection)

    def shut_all(self) -> None:
        """Shut down every connection."""
        with self._lock:
            for connection in list(self._states):
                self._shut(connection)

    def __len__(self) -> int:
        return len(self._states)

    def _evict(self) -> bool:
        # In the order of their last change: the first idle one has waited longest.
        for connection, state in self._states.items():
            if state.idle:
                self._shut(connection)
                return True
        return False

    def _shut(self, connection: socket.socket) -> None:
        """Wake its thread, whatever that is blocked in; the thread closes the descriptor."""
        del self._states[connection]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
