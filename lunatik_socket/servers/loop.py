# SPDX-License-Identifier: MIT
"""An event loop: one thread that serves many sockets.

It waits, calls the handler of each ready socket, and keeps time. Other threads can wake it.
docs/servers.md has the measurements behind the choice of one loop instead of a thread per client.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import cast

from lunatik_socket import Poll, Socket

from .tally import Tally, counted_poll, counted_socket

__all__ = ["DO_NOT_WAIT", "Handler", "Loop", "Member"]

# Called with (can_read, can_write). An error sets both.
Handler = Callable[[bool, bool], None]

DO_NOT_WAIT = 0x40  # MSG_DONTWAIT. A number saves the look-up of the letter in each call.
_EVENTS_AT_ONCE = 256


class Member(Socket):
    """A socket in a loop, with its handler and the events that it waits for."""

    __slots__ = ("events", "handler")

    handler: Handler | None
    events: str  # as in `Poll.add`; "": not in the poll

    @property
    def peer_shown(self) -> str:
        """The peer's address for messages: `"127.0.0.1:1080"`."""
        return f"{self.peer[0]}:{self.peer[1]}" if self.peer else "no peer"

    def reset_on_close(self) -> None:
        """Let `close` reset the connection instead of ending the stream."""
        with suppress(OSError):
            self.setsockopt("s", "l", (1, 0))  # SO_LINGER of 0 seconds


class Loop:
    """Sockets and their handlers. The thread that calls `run` runs all of them.

    `on_tick` is called every `tick_seconds` while `is_ticking()` returns true. Otherwise the loop
    sleeps until a socket is ready. `tally`, if given, counts the documented calls.
    """

    def __init__(
        self,
        *,
        on_tick: Callable[[], None],
        is_ticking: Callable[[], bool],
        tick_seconds: float,
        tally: Tally | None = None,
    ) -> None:
        self.now = monotonic()  # the handlers' clock, read once in each round
        self._on_tick = on_tick
        self._is_ticking = is_ticking
        self._tick_seconds = tick_seconds
        self._next_tick = self.now + tick_seconds
        self._running = True
        self._posted: deque[Callable[[], None]] = deque()
        self._socket_class = counted_socket(Member, tally) if tally else Member
        self._poll = counted_poll(tally)() if tally else Poll()
        self._waker = _Waker(counted=tally is not None)
        self.watch(self._waker.sock, "r", self._waker.on_ready)

    @property
    def waker_tally(self) -> Tally:
        """The calls made to wake the loop. Any thread makes them, so they have their own tally."""
        return self._waker.tally

    def new(self, type: str = "tcp") -> Member:
        """Make a socket for `watch`."""
        sock = self._socket_class("inet", type)
        sock.handler, sock.events = None, ""
        return sock

    def accept(self, listener: Member) -> Member:
        """Accept a connection for `watch`; raises as `accept` does, EAGAIN included."""
        sock = listener.accept()
        sock.handler, sock.events = None, ""
        return sock

    def watch(self, sock: Member, events: str, handler: Handler) -> None:
        """Call `handler` when `sock` is ready for `events`: `"r"`, `"w"` or `"rw"`."""
        sock.handler = handler
        self.want(sock, events)

    def want(self, sock: Member, events: str) -> None:
        """Wait for other `events` of `sock`, `""` for none. No system call if nothing changes."""
        if events == sock.events:
            return
        if not events:
            # Remove the socket instead of waiting for no events: a hang-up is always reported, and
            # would be reported again and again while the bytes before it may not be read yet.
            self._poll.remove(sock)
        elif sock.events:
            self._poll.modify(sock, events)
        else:
            self._poll.add(sock, events)
        sock.events = events

    def drop(self, sock: Member) -> None:
        """Close `sock` and forget it. Its events that were fetched already are not delivered."""
        sock.handler = None
        sock.close()
        if sock.events:
            self._poll.remove(sock)
            sock.events = ""

    def post(self, call: Callable[[], None]) -> None:
        """Let the loop call `call` soon. For other threads and signal handlers."""
        self._posted.append(call)
        self._waker.wake()

    def tick_by(self, when: float) -> None:
        """Move the next tick to `when`, if it would be later."""
        self._next_tick = min(self._next_tick, when)

    def finish(self) -> None:
        """Let `run` return after the current round."""
        self._running = False

    def run(self) -> None:
        """Serve until `finish`."""
        while self._running:
            ready = self._poll.wait(self._patience_ms(), _EVENTS_AT_ONCE)
            self.now = monotonic()
            for sock, can_read, can_write in cast("list[tuple[Member, bool, bool]]", ready):
                if sock.handler is not None:  # None: another handler of this round dropped it
                    sock.handler(can_read, can_write)
            while self._posted:
                self._posted.popleft()()
            if self.now >= self._next_tick:
                self._next_tick = self.now + self._tick_seconds
                self._on_tick()

    def close(self) -> None:
        """Release what the loop itself owns. Its members belong to their owners."""
        with self._waker.lock:  # no thread may be between the check that it is open and the send
            self.drop(self._waker.sock)
        self._poll.close()

    def _patience_ms(self) -> float | None:
        if self._posted or not self._running:
            return 0
        if not self._is_ticking():
            return None
        # epoll rounds up, so a wait never ends just before its tick.
        return max(0.0, self._next_tick - self.now) * 1000


class _Waker:
    """A datagram socket connected to itself. Any thread sends to it to wake the loop.

    Because it is connected, it receives datagrams from itself only. One datagram is enough for any
    number of threads that want to wake the loop.
    """

    def __init__(self, *, counted: bool) -> None:
        self.tally = Tally()
        kind = counted_socket(Member, self.tally) if counted else Member
        self.sock = kind("inet", "udp")
        self.sock.handler, self.sock.events = None, ""
        self.sock.bind("127.0.0.1", 0)
        self.sock.connect(*self.sock.getsockname())
        self._is_sent = False
        # Re-entrant: a signal handler may call stop() while this thread is inside wake().
        self.lock = threading.RLock()

    def wake(self) -> None:
        with self.lock:
            if not self._is_sent and self.sock.fileno() >= 0:
                self._is_sent = True
                self.sock.send(b"\0", DO_NOT_WAIT)

    def on_ready(self, _can_read: bool, _can_write: bool) -> None:
        self.sock.recv(1, DO_NOT_WAIT)
        # The loop makes the posted calls after this, so a call posted from now on must send again.
        self._is_sent = False
