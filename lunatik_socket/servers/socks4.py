# SPDX-License-Identifier: MIT
"""A SOCKSv4 and SOCKSv4a proxy: CONNECT for many clients at once, in one thread.

    server = Socks4Server(Socks4Config(listen=("127.0.0.1", 1080)))
    server.open()
    server.serve()      # until server.stop(), from a signal handler or another thread

How it behaves at its limits, and why it is built so: docs/servers.md.
"""

import logging
from math import ceil

from .acceptor import Acceptor
from .descriptors import allow_descriptors
from .flow import Buffers
from .loop import Loop, Member
from .resolver import Resolver
from .socks4_config import Socks4Config, Socks4Stats
from .socks4_session import Counters, Session, Shared
from .tally import Tally

__all__ = ["Socks4Config", "Socks4Server", "Socks4Stats"]

_log = logging.getLogger(__name__)

_DESCRIPTORS_A_CLIENT = 2
_TICKS_A_TIMEOUT = 8


class Socks4Server:
    """The proxy: `open`, then `serve`; `stop` from anywhere; `stats` at any time after `open`."""

    def __init__(self, config: Socks4Config) -> None:
        self.config = config
        self._tally = Tally()
        self._counters = Counters()
        self._sessions: set[Session] = set()
        self._stop_at: float | None = None  # when who is left is cut; None: not stopping
        self._is_open = False

    @property
    def address(self) -> tuple[str, int]:
        """The address it listens on, known after `open`."""
        return self._acceptor.address

    def open(self) -> None:
        """Listen. Raises OSError when that cannot be, or there is no room for the clients' descriptors.

        Raises the process's soft limit of open files as far as `max_clients` needs.
        """
        allow_descriptors(self.config.max_clients, _DESCRIPTORS_A_CLIENT)
        self._loop = Loop(
            on_tick=self._on_tick,
            is_ticking=self._is_ticking,
            tick_seconds=self._tick_seconds(),
            tally=self._tally if self.config.tally else None,
        )
        try:
            self._acceptor = Acceptor(
                self._loop,
                self.config.listen,
                backlog=self.config.backlog,
                max_clients=self.config.max_clients,
                admit=self._admit,
                prepare=self._prepare,
                log=_log,
            )
        except BaseException:
            self._loop.close()
            raise
        self._shared = Shared(
            config=self.config,
            loop=self._loop,
            buffers=Buffers(),
            resolver=Resolver(),
            counters=self._counters,
            own_address=self._acceptor.address,
            on_end=self._on_end,
            log=_log,
        )
        self._is_open = True

    def serve(self) -> None:
        """Serve until `stop`, then who is still there for `grace_seconds`; release everything."""
        if not self._is_open:
            raise ValueError("the server is not open: call open() first")
        _log.info("listening on %s:%d", *self.address)
        try:
            self._loop.run()
        finally:
            self._close()

    def stop(self) -> None:
        """Accept nobody more and let `serve` come to its end. Any thread, any number of times."""
        if self._is_open:
            self._loop.post(self._begin_stop)

    def stats(self) -> Socks4Stats:
        """Return the counts so far; from any thread."""
        counters, total = self._counters, self._tally + self._loop.waker_tally
        moving = [session.bytes_moved for session in list(self._sessions)]
        return Socks4Stats(
            accepted=self._acceptor.accepted,
            active=self._acceptor.active,
            connected=counters.connected,
            refused=counters.refused,
            timed_out=counters.timed_out,
            broken=counters.broken,
            bytes_to_target=counters.bytes_to_target + sum(to for to, _ in moving),
            bytes_to_client=counters.bytes_to_client + sum(back for _, back in moving),
            calls=total.calls,
            errors=total.errors,
            call_bytes=total.bytes,
        )

    def _prepare(self, listener: Member) -> None:
        # Accepted sockets inherit it: a proxy must not add Nagle's delay to what it passes on.
        listener.setsockopt("t", "nd", 1)
        # A SOCKS client speaks first. The kernel keeps who is silent out of accept, so they cost no
        # descriptor, and the request is there to read when accept returns.
        listener.setsockopt("t", "da", ceil(self.config.request_timeout_seconds))

    def _admit(self, client: Member) -> None:
        session = Session(self._shared, client)
        self._sessions.add(session)
        session.begin()

    def _on_end(self, session: Session) -> None:
        self._sessions.discard(session)
        self._acceptor.left()
        if self._stop_at is not None and not self._sessions:
            self._loop.finish()

    def _tick_seconds(self) -> float:
        config = self.config
        shortest = min(
            config.request_timeout_seconds,
            config.connect_timeout_seconds,
            config.idle_timeout_seconds,
        )
        return max(0.005, min(1.0, shortest / _TICKS_A_TIMEOUT))

    def _is_ticking(self) -> bool:
        return bool(self._sessions) or self._acceptor.is_resting

    def _on_tick(self) -> None:
        now = self._loop.now
        stopped = self._stop_at is not None and now >= self._stop_at
        for session in list(self._sessions):
            if stopped:
                session.cut("the server stops")
            elif now >= session.deadline:
                session.time_out()
        self._acceptor.on_tick()

    def _begin_stop(self) -> None:
        if self._stop_at is not None:
            return
        self._stop_at = self._loop.now + self.config.grace_seconds
        self._acceptor.close()
        _log.info("stopping, with %d clients connected", len(self._sessions))
        if not self._sessions:
            self._loop.finish()

    def _close(self) -> None:
        self._is_open = False
        self._stop_at = self._loop.now
        for session in list(self._sessions):
            session.cut("the server ends")
        self._acceptor.close()
        self._shared.resolver.close()
        self._loop.close()
