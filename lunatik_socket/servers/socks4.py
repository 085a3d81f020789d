# SPDX-License-Identifier: MIT
"""A SOCKSv4 and SOCKSv4a proxy: CONNECT for many clients at once, in one thread.

    server = Socks4Server(Socks4Config(listen=("127.0.0.1", 1080)))
    server.open()
    server.serve()      # until server.stop(), from a signal handler or another thread

docs/servers.md describes its limits and the reasons for its design.
"""

import logging
from math import ceil

from .flow import Buffers
from .limits import AddressUse, Limits
from .loop import Member
from .resolver import Resolver
from .server import Server
from .socks4_config import Counters, Socks4Config, Socks4Stats
from .socks4_session import Shared, Socks4Session

__all__ = ["Socks4Config", "Socks4Server", "Socks4Stats"]


class Socks4Server(Server[Socks4Config, Socks4Session]):
    """The proxy.

    Call `open`, then `serve`; `stop` from any thread; `stats` at any time after `open`.
    """

    _descriptors_a_client = 2
    _log = logging.getLogger(__name__)

    def stats(self) -> Socks4Stats:
        """Return the counts so far; from any thread."""
        counters, total = self._shared.counters, self._call_counts()
        moving = [session.bytes_moved for session in list(self._sessions)]
        return Socks4Stats(
            accepted=self._acceptor.accepted,
            active=self._acceptor.active,
            turned_away=self._turned_away,
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

    def _session(self, client: Member, use: AddressUse[Socks4Session]) -> Socks4Session:
        return Socks4Session(self._shared, client, use)

    def _make_limits(self) -> Limits[Socks4Session]:
        config = self.config
        return Limits(
            config.max_clients, config.max_clients_per_address, config.max_requests_per_address
        )

    def _prepare(self, listener: Member) -> None:
        # Accepted sockets inherit it. A proxy must not add the delay of Nagle's algorithm.
        listener.setsockopt("t", "nd", 1)
        # A SOCKS client sends first. With TCP_DEFER_ACCEPT the kernel does not hand over a client
        # that has sent nothing, so it costs no descriptor, and the request can be received as soon
        # as accept returns.
        listener.setsockopt("t", "da", ceil(self.config.request_timeout_seconds))

    def _opened(self) -> None:
        self._shared = Shared(
            config=self.config,
            loop=self._loop,
            buffers=Buffers(),
            resolver=Resolver(),
            destinations=self.config.destinations(),
            counters=Counters(),
            limits=self._limits,
            own_address=self.address,
            on_end=self._on_end,
            on_made_way=self._on_made_way,
            log=self._log,
        )

    def _closed(self) -> None:
        self._shared.resolver.close()
