# SPDX-License-Identifier: MIT
"""The configuration and the counts of a SOCKSv4 proxy, as plain data."""

from dataclasses import dataclass

from .destinations import Destinations
from .server import ServerConfig, ServerStats

__all__ = ["Counters", "Socks4Config", "Socks4Stats"]


@dataclass(frozen=True, kw_only=True)
class Socks4Config(ServerConfig):
    """The configuration of a proxy.

    `allowed_users`: the user ids that may connect; None allows all. User ids are not verified.
    `allowed_destinations` and `denied_destinations`: rules such as "10.0.0.0/8:80,8000-8100"
    (`DestinationRule.parse`). `max_requests_per_address`: requests under way, which are received,
    looked up or connected; None is an eighth of `max_clients`, and no limit for loopback addresses.
    """

    listen: tuple[str, int] = ("127.0.0.1", 1080)
    request_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 10.0
    allowed_users: frozenset[str] | None = None
    allowed_destinations: tuple[str, ...] = ()
    denied_destinations: tuple[str, ...] = ()
    max_requests_per_address: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.destinations()

    def destinations(self) -> Destinations:
        """Return the rules, ready to be checked."""
        return Destinations(self.allowed_destinations, self.denied_destinations)


@dataclass(frozen=True, kw_only=True)
class Socks4Stats(ServerStats):
    """The counts of a proxy. Bytes are those relayed, without requests and replies.

    A client that has left counts as connected, as refused, or as neither if it timed out or broke
    off before. A client that times out or breaks off after it was connected or refused counts there
    as well.
    """

    connected: int
    refused: int
    bytes_to_target: int
    bytes_to_client: int


@dataclass(slots=True)
class Counters:
    """The counts that the sessions add to while the proxy runs."""

    connected: int = 0
    refused: int = 0
    timed_out: int = 0
    broken: int = 0
    bytes_to_target: int = 0
    bytes_to_client: int = 0
