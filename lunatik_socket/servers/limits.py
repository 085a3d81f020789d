# SPDX-License-Identifier: MIT
"""Limits for each client address, so that one address cannot use up what a server has.

A client that has not sent its first request, or its first byte, is called waiting. When there is no
room, the client that has waited longest makes way: it costs its owner nothing to connect and send
nothing, so such clients must not keep others out.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

__all__ = ["AddressUse", "Limits", "RareWarning", "is_loopback"]

# A client that waits for less than this does not make way for one of another address. Its first
# bytes may still be on their way.
_PATIENCE_SECONDS = 1.0
_WARN_AGAIN_SECONDS = 60.0


class _CanMakeWay(Protocol):
    def make_way(self) -> None:
        """End at once, because another client needs the room."""


AnyClient = TypeVar("AnyClient", bound=_CanMakeWay)


@dataclass(slots=True, eq=False)
class AddressUse(Generic[AnyClient]):
    """What one address uses: its clients, its requests under way, and the clients that wait."""

    address: str
    clients: int = 0
    requests: int = 0
    waiting: dict[AnyClient, None] = field(default_factory=dict)  # the oldest is first


class Limits(Generic[AnyClient]):
    """Counts clients and requests under way by address, and knows which clients wait.

    `max_clients` and `max_requests` are for each address. None: a quarter and an eighth of
    `server_clients`, the clients of the whole server, and no limit for loopback addresses. All
    programs of this machine share 127.0.0.1, and a program here could use any of 127.0.0.0/8.
    """

    def __init__(
        self, server_clients: int, max_clients: int | None, max_requests: int | None = None
    ) -> None:
        self._max_clients = max_clients or max(1, server_clients // 4)
        self._max_requests = max_requests or max(1, server_clients // 8)
        self._loopback_clients = max_clients or server_clients
        self._loopback_requests = max_requests or server_clients
        self._used: dict[str, AddressUse[AnyClient]] = {}
        self._waiting: dict[AnyClient, float] = {}  # since when; the oldest is first

    def enter(self, address: str) -> AddressUse[AnyClient] | None:
        """Count a new client of `address`. Returns None if the address has its most clients."""
        use = self._used.get(address)
        if use is None:
            use = self._used[address] = AddressUse(address)
        limit = self._loopback_clients if is_loopback(address) else self._max_clients
        if use.clients >= limit:
            return None
        use.clients += 1
        return use

    def leave(self, client: AnyClient, use: AddressUse[AnyClient]) -> None:
        """Forget a client."""
        self.stop_waiting(client, use)
        use.clients -= 1
        if not use.clients:
            del self._used[use.address]

    def wait(self, client: AnyClient, use: AddressUse[AnyClient], now: float) -> None:
        """Note that the client has not sent its first request. Only the first call counts."""
        if client not in self._waiting:
            self._waiting[client] = now
            use.waiting[client] = None

    def stop_waiting(self, client: AnyClient, use: AddressUse[AnyClient]) -> None:
        """Note that the client's first request is complete."""
        if self._waiting.pop(client, None) is not None:
            del use.waiting[client]

    def make_room_at(self, use: AddressUse[AnyClient]) -> bool:
        """Keep to the limit of requests under way of one address.

        If it is exceeded, the client that has waited longest makes way. Returns False if it is
        exceeded and no client waits.
        """
        limit = self._loopback_requests if is_loopback(use.address) else self._max_requests
        while use.requests > limit:
            if not use.waiting:
                return False
            next(iter(use.waiting)).make_way()
        return True

    def make_room(self, now: float) -> float:
        """Let the client that has waited longest make way, whatever its address.

        Returns 0 if one did. Otherwise returns when to try again, in seconds of `now`: infinity if
        no client waits.
        """
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return float("inf")
        since = self._waiting[oldest]
        if now < since + _PATIENCE_SECONDS:
            return since + _PATIENCE_SECONDS
        oldest.make_way()
        return 0.0


class RareWarning:
    """A warning that is logged at most once a minute, then with how often it was left out.

    For what a hostile client can cause as often as it likes.
    """

    def __init__(self, log: logging.Logger, now: Callable[[], float]) -> None:
        self._log = log
        self._now = now
        self._next = 0.0
        self._left_out = 0

    def __call__(self, text: str) -> None:
        """Log `text`, unless a warning was logged less than a minute ago."""
        now = self._now()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last such line)" if self._left_out else ""
        self._log.warning("%s%s", text, more)
        self._next, self._left_out = now + _WARN_AGAIN_SECONDS, 0


def is_loopback(address: str) -> bool:
    """Whether an IPv4 address is in 127.0.0.0/8."""
    return address.startswith("127.")
