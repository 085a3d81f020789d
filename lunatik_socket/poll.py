# SPDX-License-Identifier: MIT
"""Waiting on many sockets at once: the documented `select`, and `wait` for servers.

The kernel makes ready sockets take turns: a level-triggered descriptor that epoll_wait(2) reports
moves to the end of the ready list. Asking for one event at a time therefore visits all of them.
"""

from __future__ import annotations

import errno
import os
import select
import weakref
from collections.abc import Iterable
from typing import Self

from .errors import named
from .socket import CloseListener, Socket

__all__ = ["Poll", "poll"]

_EVENTS = {
    "": 0,
    "r": select.EPOLLIN,
    "w": select.EPOLLOUT,
    "rw": select.EPOLLIN | select.EPOLLOUT,
}
# An error or a hang-up is reported as readable and as writable.
_CAN_READ = ~select.EPOLLOUT
_CAN_WRITE = ~select.EPOLLIN
# epoll watches the open file, not the descriptor number. It keeps reporting a socket that was
# closed here while another process, such as a forked child, still has it open. It cannot be removed
# then, because removing needs the number.
_OPEN_ELSEWHERE = (
    'cannot poll "descriptor {}": Bad file descriptor (EBADF); '
    "the socket is closed here but open in another process"
)
_TOO_LONG_MS = 1 << 31


def poll(sockets: Iterable[Socket]) -> Poll:
    """Return a `Poll` on `sockets`, at least one.

    Makes one epoll_create1(2), and one epoll_ctl(2) for each socket.
    """
    members = list(sockets)
    if not members:
        raise ValueError("sockets can not be empty")
    for sock in members:
        _check(sock)
    if len(set(members)) != len(members):
        raise ValueError("sockets must not hold a socket twice")
    made = Poll()
    for sock in members:
        made.add(sock)
    return made


class Poll:
    """A set of sockets to wait on. Made by `poll`, or by `Poll()`, which is empty at first."""

    __slots__ = ("__weakref__", "_closed", "_epoll", "_free", "_members", "_reference", "_wait")

    def __init__(self) -> None:
        try:
            self._epoll = select.epoll()
        except OSError as error:
            raise named(error, "make", "poll") from None
        self._wait = self._epoll.poll
        self._members: dict[int, tuple[int, Socket]] = {}
        self._free: list[int] = []
        self._closed: set[Socket] = set()
        self._reference: weakref.ref[CloseListener] = weakref.ref(self)

    def select(self, timeout_ms: float | None = None) -> tuple[int, Socket] | None:
        """Wait until a member can be read and return `(index, socket)`; None after `timeout_ms`.

        The index counts from 0, in the order given to `poll`. Members that can be read take turns.
        A closed member raises `OSError` with EBADF. Makes one epoll_wait(2).
        """
        ready = self._ready(timeout_ms, 1)
        if not ready:
            return None
        descriptor = ready[0][0]
        member = self._members.get(descriptor)
        if member is None:
            raise OSError(errno.EBADF, _OPEN_ELSEWHERE.format(descriptor))
        return member

    def wait(
        self, timeout_ms: float | None = None, maximum: int = 64
    ) -> list[tuple[Socket, bool, bool]]:
        """Wait like `select`, and return up to `maximum` of `(socket, can_read, can_write)`.

        An addition for servers. The list is empty after `timeout_ms`. An error or a hang-up sets
        both values, and is reported whatever events the socket was added for.
        """
        if maximum < 1:
            raise ValueError(f"maximum must be positive, not {maximum}")
        members = self._members
        return [
            (members[descriptor][1], events & _CAN_READ != 0, events & _CAN_WRITE != 0)
            for descriptor, events in self._ready(timeout_ms, maximum)
            if descriptor in members  # see _OPEN_ELSEWHERE
        ]

    def add(self, sock: Socket, events: str = "r") -> int:
        """Add `sock`, to wait until it can be read (`"r"`), written (`"w"`) or either (`"rw"`).

        Returns its index. Indexes of removed members are used again. An addition for servers. Makes
        one epoll_ctl(2).
        """
        _check(sock)
        mask = _mask(events)
        descriptor = sock.fileno()
        if descriptor < 0:
            raise self._bad_descriptor(sock)
        try:
            self._epoll.register(descriptor, mask)
        except FileExistsError:
            raise ValueError(f"{sock!r} is in the poll already") from None
        except OSError as error:
            raise named(error, "poll", sock._shown()) from None
        index = self._free.pop() if self._free else len(self._members)
        self._members[descriptor] = index, sock
        sock._add_close_listener(self._reference)
        return index

    def modify(self, sock: Socket, events: str) -> None:
        """Change the events that are waited for on a member. Makes one epoll_ctl(2)."""
        mask = _mask(events)
        try:
            self._epoll.modify(self._descriptor(sock), mask)
        except OSError as error:
            raise named(error, "poll", sock._shown()) from None

    def remove(self, sock: Socket) -> None:
        """Remove a member. Makes one epoll_ctl(2), or none if the member is closed."""
        if sock in self._closed:
            self._closed.discard(sock)
            return
        descriptor = self._descriptor(sock)
        try:
            self._epoll.unregister(descriptor)
        except OSError as error:
            raise named(error, "poll", sock._shown()) from None
        self._forget(descriptor)
        sock._remove_close_listener(self._reference)

    def close(self) -> None:
        """Release the poll; its members stay open."""
        self._epoll.close()

    def __len__(self) -> int:
        return len(self._members) + len(self._closed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def member_closed(self, sock: Socket) -> None:
        """Note that a member closes; `Socket.close` calls this.

        The kernel removes a closed descriptor from an epoll set without a notice, so a `select` on
        it would wait for ever.
        """
        self._forget(sock.fileno())
        self._closed.add(sock)

    def _ready(self, timeout_ms: float | None, maximum: int) -> list[tuple[int, int]]:
        if self._closed:
            raise self._bad_descriptor(next(iter(self._closed)))
        if timeout_ms is None:
            return self._wait(-1, maximum)
        if not isinstance(timeout_ms, int | float):
            raise TypeError(f"timeout_ms must be a number, not {type(timeout_ms).__name__}")
        if not timeout_ms >= 0:
            raise ValueError(f"timeout_ms must be 0 or more, not {timeout_ms}")
        if timeout_ms >= _TOO_LONG_MS:
            raise ValueError(f"timeout_ms must be below 2^31, not {timeout_ms}")
        return self._wait(timeout_ms / 1000, maximum)

    def _descriptor(self, sock: Socket) -> int:
        _check(sock)
        descriptor = sock.fileno()
        if descriptor < 0:
            raise self._bad_descriptor(sock)
        if self._members.get(descriptor, (0, None))[1] is not sock:
            raise ValueError(f"{sock!r} is not in the poll")
        return descriptor

    def _forget(self, descriptor: int) -> None:
        index, _ = self._members.pop(descriptor)
        self._free.append(index)

    @staticmethod
    def _bad_descriptor(sock: Socket) -> OSError:
        return named(OSError(errno.EBADF, os.strerror(errno.EBADF)), "poll", sock._shown())


def _check(sock: object) -> None:
    if not isinstance(sock, Socket):
        raise TypeError(f"a poll takes sockets of lunatik_socket, not {type(sock).__name__}")


def _mask(events: object) -> int:
    if isinstance(events, str) and events in _EVENTS:
        return _EVENTS[events]
    raise ValueError(f'invalid events {events!r}: must be "r", "w", "rw" or ""')
