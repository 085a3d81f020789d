# SPDX-License-Identifier: MIT
"""One direction of a connection: bytes received from one socket are sent to another.

Received bytes are sent at once, without waiting until the sink can be written: it nearly always
can, and waiting costs a system call. Bytes that the sink does not take are held, and nothing more
is received until they are sent. The sender's own buffers then fill, so it has to slow down.
"""

from .loop import DO_NOT_WAIT, Member

__all__ = ["Buffers", "Flow"]

_BIG_BYTES = 256 * 1024
_SMALL_BYTES = 16 * 1024
_MAX_HELD_BYTES = 64 * 1024 * 1024
# After this many full buffers in a row the other flows get their turn.
_BUFFERS_AT_ONCE = 2


class Buffers:
    """The one receive buffer of a loop, and the number of bytes that its flows hold.

    A flow holds at most one buffer. When all flows together hold 64 MiB, smaller buffers are used,
    so 2,000 clients that read nothing in either direction cost at most 64 MiB + 4,000 * 16 KiB.
    """

    def __init__(self) -> None:
        self._big = memoryview(bytearray(_BIG_BYTES))
        self._small = self._big[:_SMALL_BYTES]
        self.held_bytes = 0

    @property
    def free(self) -> memoryview:
        """The buffer for the next receive."""
        return self._big if self.held_bytes < _MAX_HELD_BYTES else self._small


class Flow:
    """Moves bytes from `source` to `sink`. Errors of both sockets are raised unchanged.

    The owner calls `pump` when the source can be read and `flush` when the sink can be written.
    Both return whether `wants_source` or `wants_sink` changed.
    """

    __slots__ = ("_buffers", "_held", "bytes", "ended", "sink", "source")

    def __init__(self, source: Member, sink: Member, buffers: Buffers) -> None:
        self.source = source
        self.sink = sink
        self.bytes = 0  # received from the source
        self.ended = False  # the end of the stream was sent on to the sink
        self._buffers = buffers
        self._held: memoryview | None = None

    @property
    def wants_source(self) -> bool:
        """Whether to wait until the source can be read."""
        return self._held is None and not self.ended

    @property
    def wants_sink(self) -> bool:
        """Whether to wait until the sink can be written."""
        return self._held is not None

    def pump(self) -> bool:
        """Receive from the source and send to the sink."""
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
            if size < len(buffer):  # the source is empty: another call would only return EAGAIN
                return False
        return False

    def hold(self, rest: memoryview) -> None:
        """Keep a copy of `rest`, to be sent later."""
        self._held = memoryview(bytes(rest))
        self._buffers.held_bytes += len(rest)

    def flush(self) -> bool:
        """Send as much of the held bytes as the sink takes."""
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
        """Drop the held bytes."""
        if self._held is not None:
            self._buffers.held_bytes -= len(self._held)
            self._held = None


def _send(sink: Member, data: memoryview) -> int:
    try:
        return sink.send(data, DO_NOT_WAIT)
    except BlockingIOError:
        return 0
