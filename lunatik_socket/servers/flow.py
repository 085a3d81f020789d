# SPDX-License-Identifier: MIT
"""One direction of a connection: what comes out of one socket goes into another.

What was received is sent at once, without asking first whether the other side takes it: it nearly
always does, and a question is a system call. What it does not take is held, and nothing more is
read until it is gone: that is the back-pressure, since the sender's own buffers then fill.
"""

from .loop import DO_NOT_WAIT, Member

__all__ = ["Buffers", "Flow"]

_BIG_BYTES = 256 * 1024
_SMALL_BYTES = 16 * 1024
_MAX_HELD_BYTES = 64 * 1024 * 1024
# A flow that is never dry gives way to the others after this many buffers.
_BUFFERS_AT_ONCE = 2


class Buffers:
    """The one receive buffer of a loop, and the bytes that its flows hold.

    A flow holds at most one buffer. When all together hold 64 MiB, buffers get small, so 2,000
    clients that take nothing in either direction cost no more than 64 MiB + 4,000 * 16 KiB.
    """

    def __init__(self) -> None:
        self._big = memoryview(bytearray(_BIG_BYTES))
        self._small = self._big[:_SMALL_BYTES]
        self.held_bytes = 0

    @property
    def free(self) -> memoryview:
        """The buffer to receive into next."""
        return self._big if self.held_bytes < _MAX_HELD_BYTES else self._small


class Flow:
    """From `source` to `sink`, whose errors come as they are.

    The owner calls `pump` when the source can be read and `flush` when the sink can be written.
    Both tell whether that changed what to wait for, which `wants_source` and `wants_sink` then say.
    """

    __slots__ = ("_buffers", "_held", "bytes", "ended", "sink", "source")

    def __init__(self, source: Member, sink: Member, buffers: Buffers) -> None:
        self.source = source
        self.sink = sink
        self.bytes = 0  # taken from the source
        self.ended = False  # the end of the stream was passed on
        self._buffers = buffers
        self._held: memoryview | None = None

    @property
    def wants_source(self) -> bool:
        """Whether there is reason to wait until the source can be read."""
        return self._held is None and not self.ended

    @property
    def wants_sink(self) -> bool:
        """Whether there is reason to wait until the sink can be written."""
        return self._held is not None

    def pump(self) -> bool:
        """Move what the source has."""
        if self._held is not None or self.ended:
            return False
        source, sink = self.source, self.sink
        for _ in range(_BUFFERS_AT_ONCE):
            buffer = self._buffers.free
            try:
                _, size = source.recv(buffer, DO_NOT_WAIT)
            except BlockingIOError:
                return False
            if not size:
                self.ended = True
                sink.shutdown("w")
                return True
            self.bytes += size
            sent = _send(sink, buffer[:size])
            if sent < size:
                self.hold(buffer[sent:size])
                return True
            if size < len(buffer):  # the source is dry: no need for a call that only says so
                return False
        return False

    def hold(self, rest: memoryview) -> None:
        """Keep a copy of `rest` for the sink to take later."""
        self._held = memoryview(bytes(rest))
        self._buffers.held_bytes += len(rest)

    def flush(self) -> bool:
        """Send of what is held as much as the sink takes."""
        if self._held is None:
            return False
        sent = _send(self.sink, self._held)
        self._buffers.held_bytes -= sent
        if sent < len(self._held):
            self._held = self._held[sent:]
            return False
        self._held = None
        return True

    def discard(self) -> None:
        """Forget what is held."""
        if self._held is not None:
            self._buffers.held_bytes -= len(self._held)
            self._held = None


def _send(sink: Member, data: memoryview) -> int:
    try:
        return sink.send(data, DO_NOT_WAIT)
    except BlockingIOError:
        return 0
