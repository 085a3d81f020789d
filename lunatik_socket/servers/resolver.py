# SPDX-License-Identifier: MIT
"""Looks up the IPv4 addresses of host names, any number at once, in one separate thread.

c-ares (the Python package pycares) asks the name servers without blocking. Each look-up has its own
c-ares channel, which costs about 0.1 ms: it can be cancelled alone, and it reads /etc/resolv.conf
and /etc/hosts as they are now. The C library's getaddrinfo(3) blocks a thread for each name, so a
few silent name servers would stop all other look-ups, and it cannot be cancelled.

Name resolution is not one of the documented operations. c-ares makes its own sockets for it: a
tracer counts them for the process, a server's own tally does not.
"""

import errno
import heapq
import os
import select
import threading
from _socket import AF_INET, SOCK_STREAM
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pycares

__all__ = ["Lookup", "Resolver"]

_MISSING = "the Python package pycares is missing (pip install pycares)"
_NO_ADDRESS = "the name has no IPv4 address"


class Lookup:
    """One name to look up. `addresses` or `error` is set when `done` is called."""

    __slots__ = ("_resolver", "addresses", "cancelled", "channel", "done", "due", "error", "name")

    def __init__(self, resolver: "Resolver", name: str, done: Callable[["Lookup"], None]) -> None:
        self.name = name
        self.addresses: list[str] = []
        self.error = ""
        self.cancelled = False
        self.done = done
        # For the resolver's thread: set while the name servers are asked.
        self.channel: pycares.Channel | None = None
        self.due = 0.0
        self._resolver = resolver

    def cancel(self) -> None:
        """Give up the look-up and release its sockets. Its result must be ignored."""
        self.cancelled = True
        self._resolver.post(self)


class Resolver:
    """Looks up names in a thread of its own, which starts with the first name.

    `name_servers` (`ADDR:PORT`) are asked instead of those in /etc/resolv.conf.
    """

    def __init__(self, name_servers: tuple[str, ...] = ()) -> None:
        self._name_servers = name_servers
        self._worker: _Worker | None = None

    def look_up(self, name: str, done: Callable[[Lookup], None]) -> Lookup:
        """Start to look up `name`. `done` is called in another thread.

        Raises OSError if there is no descriptor or no thread left for the resolver.
        """
        lookup = Lookup(self, name, done)
        if self._worker is None:
            self._worker = _started(self._name_servers)
        self.post(lookup)
        return lookup

    def post(self, lookup: Lookup) -> None:
        """Let the thread start `lookup`, or end it if it is cancelled."""
        if self._worker is not None:
            self._worker.post(lookup)

    def close(self) -> None:
        """Cancel all look-ups and let the thread end."""
        if self._worker is not None:
            self._worker.post(None)
            self._worker = None


class _Worker:
    """What the thread owns: the sockets of all look-ups, and when each must be called again."""

    def __init__(self, name_servers: tuple[str, ...]) -> None:
        self._name_servers = name_servers
        self._posted: deque[Lookup | None] = deque()
        self._lookups: dict[int, Lookup] = {}  # by descriptor
        self._running: set[Lookup] = set()
        self._due: list[tuple[float, int, Lookup]] = []  # a heap; the number breaks ties
        self._numbers = count()
        self._epoll = select.epoll()
        try:
            self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            self._epoll.close()
            raise
        self._epoll.register(self._wakeup, select.EPOLLIN)
        # The thread closes the event descriptor at its end, when other threads may still post.
        self._lock = threading.Lock()
        self._is_closed = False

    def post(self, lookup: Lookup | None) -> None:
        """Hand a look-up to the thread; None: end. From any thread."""
        with self._lock:
            if not self._is_closed:
                self._posted.append(lookup)
                os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """Release the descriptors."""
        with self._lock:
            self._is_closed = True
            os.close(self._wakeup)
        self._epoll.close()

    def run(self) -> None:
        """Serve until None is posted."""
        try:
            while self._take_posted():
                for descriptor, events in self._epoll.poll(self._patience()):
                    if descriptor == self._wakeup:
                        os.eventfd_read(self._wakeup)
                    elif lookup := self._lookups.get(descriptor):
                        can_read = descriptor if events & ~select.EPOLLOUT else -1
                        can_write = descriptor if events & ~select.EPOLLIN else -1
                        self._process(lookup, can_read, can_write)
                self._call_due()
        finally:
            for lookup in list(self._running):
                self._end(lookup)
            self.close()

    def _take_posted(self) -> bool:
        while self._posted:
            lookup = self._posted.popleft()
            if lookup is None:
                return False
            if lookup.cancelled:
                self._end(lookup)
            else:
                self._begin(lookup)
        return True

    def _begin(self, lookup: Lookup) -> None:
        try:
            import pycares  # noqa: PLC0415 - takes 30 ms, and a proxy may never need it
        except ImportError:
            lookup.error = _MISSING
            lookup.done(lookup)
            return

        def on_socket(descriptor: int, want_read: bool, want_write: bool) -> None:
            self._watch(lookup, descriptor, want_read, want_write)

        def on_answer(result: Any, status: int | None) -> None:
            _set_answer(lookup, result, status)

        try:
            lookup.channel = pycares.Channel(sock_state_cb=on_socket, servers=self._name_servers)
        except pycares.AresError as error:
            lookup.error = str(error)
            lookup.done(lookup)
            return
        self._running.add(lookup)
        lookup.channel.getaddrinfo(
            lookup.name,
            None,
            family=AF_INET,  # type: ignore[arg-type] # the number is enough
            type=SOCK_STREAM,
            callback=on_answer,
        )
        self._go_on(lookup)

    def _watch(self, lookup: Lookup, descriptor: int, want_read: bool, want_write: bool) -> None:
        # c-ares calls this also from its own thread that destroys a channel, before it closes the
        # descriptor. Each of these calls is atomic.
        events = select.EPOLLIN * bool(want_read) | select.EPOLLOUT * bool(want_write)
        if not events:
            if self._lookups.pop(descriptor, None) is not None:
                self._epoll.unregister(descriptor)
        elif descriptor in self._lookups:
            self._epoll.modify(descriptor, events)
        else:
            self._lookups[descriptor] = lookup
            self._epoll.register(descriptor, events)

    def _process(self, lookup: Lookup, can_read: int, can_write: int) -> None:
        if lookup.channel is not None:
            lookup.channel.process_fd(can_read, can_write)
            self._go_on(lookup)

    def _go_on(self, lookup: Lookup) -> None:
        """Wait for the next event of the look-up, or end it if it has its answer."""
        if lookup.channel is None:
            return
        if lookup.addresses or lookup.error:
            self._end(lookup)
            lookup.done(lookup)
            return
        lookup.due = monotonic() + lookup.channel.timeout()  # type: ignore[no-untyped-call]
        heapq.heappush(self._due, (lookup.due, next(self._numbers), lookup))

    def _end(self, lookup: Lookup) -> None:
        channel, lookup.channel = lookup.channel, None
        self._running.discard(lookup)
        if channel is not None:
            channel.cancel()  # closes its sockets now, not later in the thread of pycares
            channel.close()

    def _patience(self) -> float | None:
        """Seconds until a look-up has to be called again; None: no limit."""
        while self._due:
            due, _, lookup = self._due[0]
            if lookup.channel is not None and lookup.due == due:
                return max(0.0, due - monotonic())
            heapq.heappop(self._due)  # that look-up has ended, or has a later entry
        return None

    def _call_due(self) -> None:
        """Let c-ares see that a time-out has passed: it asks again, or the next name server."""
        now = monotonic()
        while self._due and self._due[0][0] <= now:
            due, _, lookup = heapq.heappop(self._due)
            if lookup.due == due:
                self._process(lookup, -1, -1)


def _started(name_servers: tuple[str, ...]) -> _Worker:
    worker = _Worker(name_servers)
    try:
        threading.Thread(target=worker.run, name="resolver", daemon=True).start()
    except RuntimeError as error:  # CPython has no narrower type for "can't start new thread"
        worker.close()
        raise OSError(errno.EAGAIN, f"cannot start a thread: {error}") from None
    return worker


def _set_answer(lookup: Lookup, result: Any, status: int | None) -> None:
    from pycares import errno as ares  # noqa: PLC0415

    if status is None:
        found = (node.addr[0].decode() for node in result.nodes if node.family == AF_INET)
        lookup.addresses = list(dict.fromkeys(found))
    if status == ares.ARES_ENODATA or not (status or lookup.addresses):
        lookup.error = _NO_ADDRESS
    elif status:
        name = ares.errorcode.get(status, str(status)).removeprefix("ARES_")
        lookup.error = f"{ares.strerror(status)!s} ({name})"
