# SPDX-License-Identifier: MIT
"""Taking connections in: all that wait, up to a limit, and as long as descriptors last."""

import errno
import logging
from collections.abc import Callable

from .loop import Loop, Member

__all__ = ["Acceptor"]

# The process or the machine is out of something; trying again at once would only burn the CPU.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# That connection died while it queued, or a firewall wants none (accept(2)): on to the next.
_OF_THAT_CONNECTION = {
    *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT),
    *(errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
}
_MOST_AT_ONCE = 64
_RETRY_SECONDS = 0.2
# A server at its limit rests and resumes with each client that leaves: one line for all that.
_WARN_AGAIN_SECONDS = 60.0


class Acceptor:
    """A listener that calls `admit` with each connection, and rests at `max_clients`.

    At the limit the listener is left alone: clients wait in the kernel's backlog, which costs this
    process no descriptor and no memory, and are served in order as others leave (`left`). The same
    when descriptors run out, until someone leaves or a moment has passed.
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
        self._resting_until = 0.0  # 0: not resting
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
    def is_resting(self) -> bool:
        """Whether it waits for a client to leave or for time to pass."""
        return self._resting_until > 0

    def left(self) -> None:
        """Tell that a client is gone: another may come."""
        self.active -= 1
        if self._resting_until:
            self._resume()

    def on_tick(self) -> None:
        """Try again after a while without descriptors, though nobody left."""
        if 0 < self._resting_until <= self._loop.now:
            self._resume()

    def close(self) -> None:
        """Stop listening. Clients still in the backlog are reset by the kernel."""
        self._resting_until = 0.0
        self._loop.drop(self._listener)

    def _on_ready(self, _can_read: bool, _can_write: bool) -> None:
        # One accept when they come singly, spares a call that only finds EAGAIN; more and more in a
        # rush, so that a thousand at once do not wait a thousand rounds.
        for _ in range(self._at_once):
            if self.active >= self._max_clients:
                self._rest(f"{self.active} clients, the limit", float("inf"))
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
            self._rest(str(error), self._loop.now + _RETRY_SECONDS)
        elif error.errno in _OF_THAT_CONNECTION:
            self._log.info("not accepted: %s", error)
        elif not isinstance(error, BlockingIOError):
            raise error

    def _rest(self, cause: str, until: float) -> None:
        if self._loop.now >= self._next_warning:
            self._log.warning("accepting nobody for now: %s", cause)
            self._next_warning = self._loop.now + _WARN_AGAIN_SECONDS
        self._resting_until = until
        self._loop.tick_by(until)
        self._loop.want(self._listener, "")

    def _resume(self) -> None:
        self._resting_until = 0.0
        self._loop.want(self._listener, "r")
