# SPDX-License-Identifier: MIT
"""Accepting connections, up to a limit of clients and while descriptors are left."""

import errno
import logging
from collections.abc import Callable

from .loop import Loop, Member

__all__ = ["Acceptor"]

# The process or the machine has run out of a resource. Trying again at once would only burn CPU.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# That one connection failed while it was queued, or a firewall forbids it (accept(2)). The next one
# may work.
_OF_THAT_CONNECTION = {
    *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT),
    *(errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
}
_MOST_AT_ONCE = 64
_RETRY_SECONDS = 0.2
# A server at its limit pauses and resumes with each client that leaves. It logs that only once in
# this time.
_WARN_AGAIN_SECONDS = 60.0


class Acceptor:
    """A listener that calls `admit` with each connection, and pauses at `max_clients`.

    While it pauses it does not accept. Clients wait in the kernel's backlog, which costs this
    process no descriptor and no memory, and are served in order as others leave (`left`). It also
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
        log: logging.Logger,
        prepare: Callable[[Member], None] = lambda _: None,
    ) -> None:
        self.accepted = 0
        self.active = 0
        self._loop = loop
        self._max_clients = max_clients
        self._admit = admit
        self._log = log
        self._at_once = 1
        self._paused_until = 0.0  # 0: not paused
        self._next_warning = 0.0
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

    def close(self) -> None:
        """Stop listening. The kernel resets the clients that are still in the backlog."""
        self._paused_until = 0.0
        self._loop.drop(self._listener)

    def _on_ready(self, _can_read: bool, _can_write: bool) -> None:
        # When clients come one at a time, one accept saves a second call that would only return
        # EAGAIN. In a rush the number doubles each time, so that a thousand clients do not need a
        # thousand rounds of the loop.
        for _ in range(self._at_once):
            if self.active >= self._max_clients:
                self._pause(f"{self.active} clients, the limit", float("inf"))
                return
            try:
                client = self._loop.accept(self._listener)
            except OSError as error:
                self._at_once = 1
                self._not_accepted(error)
                return
            self.accepted += 1
            self.active += 1
            self._admit(client)
        self._at_once = min(2 * self._at_once, _MOST_AT_ONCE)

    def _not_accepted(self, error: OSError) -> None:
        if error.errno in _EXHAUSTED:
            self._pause(str(error), self._loop.now + _RETRY_SECONDS)
        elif error.errno in _OF_THAT_CONNECTION:
            self._log.info("not accepted: %s", error)
        elif not isinstance(error, BlockingIOError):
            raise error

    def _pause(self, cause: str, until: float) -> None:
        if self._loop.now >= self._next_warning:
            self._log.warning("not accepting for now: %s", cause)
            self._next_warning = self._loop.now + _WARN_AGAIN_SECONDS
        self._paused_until = until
        self._loop.tick_by(until)
        self._loop.want(self._listener, "")

    def _resume(self) -> None:
        self._paused_until = 0.0
        self._loop.want(self._listener, "r")
