# SPDX-License-Identifier: MIT
"""An echo server for many clients at once, on TCP and UDP at the same port.

server = EchoServer(EchoConfig(listen=("127.0.0.1", 10007)))
server.open()
server.serve()      # until server.stop(), from a signal handler or another thread
"""

import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass

from .flow import Buffers, Flow
from .loop import DO_NOT_WAIT, Loop, Member
from .server import Server, ServerConfig, ServerStats

__all__ = ["EchoConfig", "EchoServer", "EchoStats"]

_log = logging.getLogger(__name__)

_MAX_DATAGRAM_BYTES = 65535
# After this many datagrams in a row the TCP clients get their turn.
_DATAGRAMS_AT_ONCE = 32
_PORT_ATTEMPTS = 8


@dataclass(frozen=True, kw_only=True)
class EchoConfig(ServerConfig):
    """The configuration of an echo server. Port 0: one that is free for TCP and UDP."""

    listen: tuple[str, int] = ("127.0.0.1", 10007)


@dataclass(frozen=True, kw_only=True)
class EchoStats(ServerStats):
    """The counts of an echo server.

    A datagram is dropped when it cannot be sent back, or comes from a port that an echo may use.
    """

    stream_bytes: int
    datagrams: int
    datagram_bytes: int
    datagrams_dropped: int


@dataclass(slots=True)
class _Counters:
    timed_out: int = 0
    broken: int = 0
    stream_bytes: int = 0


class EchoSession:
    """One TCP client: a flow from its socket to the same socket."""

    __slots__ = ("_client", "_counters", "_flow", "_idle_seconds", "_loop", "_on_end", "deadline")

    def __init__(
        self,
        loop: Loop,
        client: Member,
        flow: Flow,
        *,
        idle_seconds: float,
        counters: _Counters,
        on_end: Callable[["EchoSession"], None],
    ) -> None:
        self._loop = loop
        self._client = client
        self._flow = flow
        self._idle_seconds = idle_seconds
        self._counters = counters
        self._on_end = on_end
        self.deadline = loop.now + idle_seconds

    @property
    def bytes_moved(self) -> int:
        """Bytes received so far."""
        return self._flow.bytes

    def begin(self) -> None:
        """Wait for the client's first bytes."""
        _log.info("%s: connected", self._client.peer_shown)
        self._loop.watch(self._client, "r", self._on_ready)

    def time_out(self) -> None:
        """End the session, because nothing was received or sent for too long."""
        self._counters.timed_out += 1
        _log.warning("%s: timed out: no traffic in time", self._client.peer_shown)
        self._end()

    def cut(self, cause: str) -> None:
        """End at once."""
        _log.info("%s: cut: %s", self._client.peer_shown, cause)
        self._end()

    def _on_ready(self, can_read: bool, can_write: bool) -> None:
        self.deadline = self._loop.now + self._idle_seconds
        flow = self._flow
        try:
            changed = can_write and flow.flush()
            if can_read and flow.pump():
                changed = True
            if flow.ended:
                _log.info("%s: closed", self._client.peer_shown)
                self._end()
            elif changed:
                self._loop.want(self._client, "r" if flow.wants_source else "w")
        except OSError as error:
            self._counters.broken += 1
            _log.info("%s: broken off: %s", self._client.peer_shown, error)
            self._end()

    def _end(self) -> None:
        self._counters.stream_bytes += self._flow.bytes
        self._flow.discard()
        self._loop.drop(self._client)
        self._on_end(self)


class DatagramEcho:
    """The UDP side: sends each datagram back to its sender."""

    def __init__(self, loop: Loop, address: tuple[str, int]) -> None:
        self.echoed = self.bytes = self.dropped = 0
        self._own_port = address[1]
        self._loop = loop
        self._buffer = memoryview(bytearray(_MAX_DATAGRAM_BYTES))
        self._sock = loop.new("udp")
        try:
            self._sock.bind(*address)
            loop.watch(self._sock, "r", self._on_ready)
        except BaseException:
            loop.drop(self._sock)
            raise

    def close(self) -> None:
        """Stop receiving."""
        self._loop.drop(self._sock)

    def _on_ready(self, _can_read: bool, _can_write: bool) -> None:
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                _, size, msghdr = self._sock.recvmsg({}, self._buffer, DO_NOT_WAIT)
            except BlockingIOError:
                return
            except OSError as error:  # an ICMP error for an answer sent before
                _log.info("datagram: %s", error)
                continue
            self._answer(msghdr["name"], size)

    def _answer(self, name: object, size: int) -> None:
        assert isinstance(name, dict)
        if name["port"] in {self._own_port, 0}:
            # It comes from another echo server, or its source is forged. Answering would start an
            # endless exchange.
            self.dropped += 1
            _log.warning(
                "%s:%d: datagram dropped: it comes from a port of an echo server",
                name["addr"],
                name["port"],
            )
            return
        try:
            self._sock.sendmsg({"name": name, "flags": DO_NOT_WAIT}, self._buffer[:size])
        except OSError as error:
            self.dropped += 1
            _log.info("%s:%d: datagram dropped: %s", name["addr"], name["port"], error)
        else:
            self.echoed += 1
            self.bytes += size


class EchoServer(Server[EchoConfig, EchoSession]):
    """The echo server.

    Call `open`, then `serve`; `stop` from any thread; `stats` at any time after `open`.
    """

    _log = _log

    def open(self) -> None:
        """Listen on TCP and UDP. See `Server.open`."""
        attempts = _PORT_ATTEMPTS if self.config.listen[1] == 0 else 1
        for attempt in range(1, attempts + 1):
            try:
                super().open()
            except OSError as error:
                # The port that was free for TCP may be in use for UDP.
                if error.errno != errno.EADDRINUSE or attempt == attempts:
                    raise
            else:
                return

    def stats(self) -> EchoStats:
        """Return the counts so far; from any thread."""
        counters, datagrams, total = self._counters, self._datagrams, self._call_counts()
        moving = sum(session.bytes_moved for session in list(self._sessions))
        return EchoStats(
            accepted=self._acceptor.accepted,
            active=self._acceptor.active,
            timed_out=counters.timed_out,
            broken=counters.broken,
            stream_bytes=counters.stream_bytes + moving,
            datagrams=datagrams.echoed,
            datagram_bytes=datagrams.bytes,
            datagrams_dropped=datagrams.dropped,
            calls=total.calls,
            errors=total.errors,
            call_bytes=total.bytes,
        )

    def _session(self, client: Member) -> EchoSession:
        return EchoSession(
            self._loop,
            client,
            Flow(client, client, self._buffers),
            idle_seconds=self.config.idle_timeout_seconds,
            counters=self._counters,
            on_end=self._on_end,
        )

    def _prepare(self, listener: Member) -> None:
        listener.setsockopt("t", "nd", 1)  # inherited by accepted sockets

    def _opened(self) -> None:
        self._buffers = Buffers()
        self._counters = _Counters()
        self._datagrams = DatagramEcho(self._loop, self.address)

    def _stopping(self) -> None:
        self._datagrams.close()

    def _closed(self) -> None:
        self._datagrams.close()
