# SPDX-License-Identifier: MIT
"""Accepting connections, up to a limit of clients and while descriptors are left."""

import errno
import logging
from collections.abc import Callable

from .limits import RareWarning
from .loop import Loop, Member

__all__ = ["Acceptor"]

# The process or the machine has run out of a resource. Trying again at once would only burn CPU.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# The other errors that accept(2) lists for a listener that is in order: that one connection failed
# while it was queued, or a firewall or security module forbids it. The next one may work.
# ERESTARTSYS can be seen by a traced process. ECONNRESET is not in the list but is such an error.
_ERESTARTSYS = 512
_OF_THAT_CONNECTION = {
    *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT),
    *(errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
    *(errno.ENOSR, errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT, errno.ETIMEDOUT),
    *(errno.ECONNRESET, errno.EACCES, _ERESTARTSYS),
}
# A security module refuses before the kernel takes the connection from the queue, so the same one
# is ready again at once. After this many errors in a row the acceptor pauses.
_FAILURES_AT_ONCE = 16
_MOST_AT_ONCE = 64
_RETRY_SECONDS = 0.2


class Acceptor:
    """A listener that calls `admit` with each connection, and pauses at `max_clients`.

    While it pauses it does not accept. Clients wait in the kernel's backlog, which costs this
    process no descriptor and no memory, and are served in order as others leave (`left`). Before it
    pauses it calls `make_room`, which may end a client, or return the time to try again. It also
    pauses when descriptors run out, until a client leaves or a short time has passed.
    """

    def __init__(
        self,
        loop: Loop,
        listen: tuple[str, int],
        *,
        backlog: int,
        max_clients: int,
        admit: Callable[[Member], None],
        make_room: Callable[[], float],
        log: logging.Logger,
        prepare: Callable[[Member], None] = lambda _: None,
    ) -> None:
        self.accepted = 0
        self.active = 0
        self._loop = loop
        self._max_clients = max_clients
        self._admit = admit
        self._make_room = make_room
        # A server at its limit pauses and resumes with each client that leaves, and anyone may
        # cause failures.
        self._warn_of_pause = RareWarning(log, lambda: loop.now)
        self._warn_of_failure = RareWarning(log, lambda: loop.now)
        self._at_once = 1
        self._failures = 0  # in a row
        self._paused_until = 0.0  # 0: not paused
        self._listener = loop.new()
        try:
            self._listener.setsockopt("s", "ra", 1)
            prepare(self._listener)
            self._listener.bind(*listen)
            self._listener.listen(backlog)
            self._listener.setblocking(False)
        except BaseException:
            loop.drop(self._listener)
            raise
        self.address = self._listener.getsockname()
        loop.watch(self._listener, "r", self._on_ready)

    @property
    def is_paused(self) -> bool:
        """Whether it has stopped accepting until a client leaves or time passes."""
        return self._paused_until > 0

    def left(self) -> None:
        """Note that a client has left, so that another can be accepted."""
        self.active -= 1
        if self._paused_until:
            self._resume()

    def on_tick(self) -> None:
        """Accept again when the pause without descriptors is over."""
        if 0 < self._paused_until <= self._loop.now:
            self._resume()
        elif self._paused_until:
            self._loop.tick_by(self._paused_until)

    def close(self) -> None:
        """Stop listening. The kernel resets the clients that are still in the backlog."""
        self._paused_until = 0.0
        self._loop.drop(self._listener)

    def _on_ready(self, _can_read: bool, _can_write: bool) -> None:
        # When clients come one at a time, one accept saves a second call that would only return
        # EAGAIN. In a rush the number doubles each time, so that a thousand clients do not need a
        # thousand rounds of the loop.
        for _ in range(self._at_once):
            if self.active >= self._max_clients and (retry_at := self._make_room()):
                self._pause(f"{self.active} clients, the limit", retry_at)
                return
            try:
                client = self._loop.accept(self._listener)
            except OSError as error:
                self._at_once = 1
                self._not_accepted(error)
                return
            self.accepted += 1
            self.active += 1
            self._failures = 0
            self._admit(client)
        self._at_once = min(2 * self._at_once, _MOST_AT_ONCE)

    def _not_accepted(self, error: OSError) -> None:
        if error.errno in _EXHAUSTED:
            self._pause(str(error), self._loop.now + _RETRY_SECONDS)
        elif error.errno in _OF_THAT_CONNECTION:
            self._warn_of_failure(f"not accepted: {error}")
            self._failures += 1
            if self._failures >= _FAILURES_AT_ONCE:
                self._failures = 0
                self._pause(str(error), self._loop.now + _RETRY_SECONDS)
        elif not isinstance(error, BlockingIOError):
            raise error

    def _pause(self, cause: str, until: float) -> None:
        self._warn_of_pause(f"not accepting for now: {cause}")
        self._paused_until = until
        self._loop.tick_by(until)
        self._loop.want(self._listener, "")

    def _resume(self) -> None:
        self._paused_until = 0.0
        self._loop.want(self._listener, "r")
