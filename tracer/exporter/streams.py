# SPDX-License-Identifier: MIT
"""The open streams of the live page: how many there may be, and which one makes way for a new one.

Each stream keeps a connection and a thread. So there are at most MAX_STREAMS, and at most
MAX_PER_CLIENT of one address. An address that opens one more loses its oldest: a person who opens
another page gets it, even if other programs at the same address keep many. A stream that made way
tells its page to come back later, so that pages do not push each other out all the time.
"""

from collections import Counter
from collections.abc import Iterator
from threading import Lock

from tracer.exporter.http.refusals import Refusals
from tracer.exporter.live import Live

__all__ = ["MAX_PER_CLIENT", "MAX_STREAMS", "Streams"]

MAX_STREAMS = 16
MAX_PER_CLIENT = 8
_COME_BACK_LATER = b"retry: 15000\n\n"


class _Stream:
    def __init__(self, client: str) -> None:
        self.client = client
        self.is_open = True


class Streams:
    """The streams of `live`; safe to use from many threads."""

    def __init__(self, live: Live, refusals: Refusals) -> None:
        self._live = live
        self._refusals = refusals
        self._lock = Lock()
        self._open: list[_Stream] = []

    def has_room_for(self, client: str) -> bool:
        """Whether a client at this address may open a stream, perhaps in place of another."""
        with self._lock:
            has_room = self._has_room() or self._replaceable(client) is not None
        if not has_room:
            self._refusals.count("stream", client)
        return has_room

    def events(self, client: str) -> Iterator[bytes]:
        """The events for a new stream of this client; opened by the first `next`."""
        stream = _Stream(client)
        self._enter(stream)
        try:
            yield from self._live.events(lambda: stream.is_open)
            if not stream.is_open:
                yield _COME_BACK_LATER
        finally:
            with self._lock:
                if stream.is_open:
                    self._open.remove(stream)

    def _enter(self, stream: _Stream) -> None:
        with self._lock:
            old = self._replaceable(stream.client)
            if old is not None:
                self._open.remove(old)
                old.is_open = False
                self._refusals.count("stream", old.client)
            self._open.append(stream)

    def _has_room(self) -> bool:
        return len(self._open) < MAX_STREAMS

    def _replaceable(self, client: str) -> _Stream | None:
        """The stream that makes way for one of this client; None if there is room, or no such."""
        streams = Counter(stream.client for stream in self._open)
        if streams[client] >= MAX_PER_CLIENT:
            owner = client
        elif self._has_room():
            return None
        else:
            owner = max(streams, key=lambda one: streams[one])
            if streams[owner] <= streams[client] + 1 and owner != client:
                return None
        return next(stream for stream in self._open if stream.client == owner)
