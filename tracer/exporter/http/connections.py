# SPDX-License-Identifier: MIT
"""The open connections and their deadlines, so that one client cannot block another.

The time-out of a socket limits each read and each write, but not their sum: a client that sends one
byte every few seconds would keep its thread for ever. So every connection has a deadline for its
current step, and one thread shuts down the connections whose deadline has passed.
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

    When the limit is reached, a new connection replaces the one that has been idle longest.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._states: dict[socket.socket, _State] = {}
        self._lock = Lock()

    def admit(self, connection: socket.socket, seconds: float) -> bool:
        """Add a connection, which may be idle for `seconds`; false if all others are busy."""
        with self._lock:
            if len(self._states) >= self._limit and not self._evict():
                return False
            self._states[connection] = _State(time.monotonic() + seconds, idle=True)
            return True

    def expect(self, connection: socket.socket, seconds: float, *, idle: bool = False) -> None:
        """Set the deadline of the next step to `seconds` from now."""
        with self._lock:
            # If it was evicted meanwhile, its socket is shut down and its next call will fail.
            if self._states.pop(connection, None):
                self._states[connection] = _State(time.monotonic() + seconds, idle)

    def forget(self, connection: socket.socket) -> None:
        """Remove a connection that is closed."""
        with self._lock:
            self._states.pop(connection, None)

    def shut_overdue(self) -> None:
        """Shut down every connection whose deadline has passed."""
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
        # The dictionary is in the order of the last change: the first idle one is idle longest.
        for connection, state in self._states.items():
            if state.idle:
                self._shut(connection)
                return True
        return False

    def _shut(self, connection: socket.socket) -> None:
        """End every blocking call of its thread, which then closes the descriptor."""
        del self._states[connection]
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
