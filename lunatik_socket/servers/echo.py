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

from .echo_datagrams import DatagramEcho
from .flow import Buffers, Flow
from .limits import AddressUse, Limits
from .loop import Loop, Member
from .server import Server, ServerConfig, ServerStats

__all__ = ["EchoConfig", "EchoServer", "EchoStats"]

_log = logging.getLogger(__name__)

_PORT_ATTEMPTS = 8


@dataclass(frozen=True, kw_only=True)
class EchoConfig(ServerConfig):
    """The configuration of an echo server. Port 0: one that is free for TCP and UDP.

    `max_datagrams_per_second`: how many datagrams of one address are answered in the long run.
    """

    listen: tuple[str, int] = ("127.0.0.1", 10007)
    max_datagrams_per_second: int = 100


@dataclass(frozen=True, kw_only=True)
class EchoStats(ServerStats):
    """The counts of an echo server.

    A datagram is dropped when it cannot be sent back, comes from a port that may answer it, or is
    one too many of its address.
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

    __slots__ = (
        *("_client", "_counters", "_flow", "_idle_seconds", "_limits", "_loop", "_on_end"),
        *("_on_made_way", "deadline", "use"),
    )

    def __init__(
        self,
        loop: Loop,
        client: Member,
        flow: Flow,
        *,
        use: AddressUse["EchoSession"],
        limits: Limits["EchoSession"],
        idle_seconds: float,
        counters: _Counters,
        on_end: Callable[["EchoSession"], None],
        on_made_way: Callable[["EchoSession"], None],
    ) -> None:
        self.use = use
        self._limits = limits
        self._on_made_way = on_made_way
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
        self._limits.wait(self, self.use, self._loop.now)
        self._loop.watch(self._client, "r", self._on_first_bytes)

    def time_out(self) -> None:
        """End the session, because nothing was received or sent for too long."""
        self._counters.timed_out += 1
        _log.warning("%s: timed out: no traffic in time", self._client.peer_shown)
        self._end()

    def cut(self, cause: str) -> None:
        """End at once."""
        _log.info("%s: cut: %s", self._client.peer_shown, cause)
        self._end()

    def make_way(self) -> None:
        """End at once without a line in the log, because another client needs the room."""
        self._on_made_way(self)
        self._client.reset_on_close()
        self._end()

    def _on_first_bytes(self, can_read: bool, can_write: bool) -> None:
        self._limits.stop_waiting(self, self.use)
        self._client.handler = self._on_ready
        self._on_ready(can_read, can_write)

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
            turned_away=self._turned_away,
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

    def _session(self, client: Member, use: AddressUse[EchoSession]) -> EchoSession:
        return EchoSession(
            self._loop,
            client,
            Flow(client, client, self._buffers),
            use=use,
            limits=self._limits,
            idle_seconds=self.config.idle_timeout_seconds,
            counters=self._counters,
            on_end=self._on_end,
            on_made_way=self._on_made_way,
        )

    def _prepare(self, listener: Member) -> None:
        listener.setsockopt("t", "nd", 1)  # inherited by accepted sockets

    def _opened(self) -> None:
        self._buffers = Buffers()
        self._counters = _Counters()
        self._datagrams = DatagramEcho(
            self._loop, self.address, self.config.max_datagrams_per_second, self._log
        )

    def _stopping(self) -> None:
        self._datagrams.close()

    def _closed(self) -> None:
        self._datagrams.close()
