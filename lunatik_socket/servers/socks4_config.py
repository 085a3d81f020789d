# SPDX-License-Identifier: MIT
"""What a SOCKSv4 proxy is told, and what it tells: plain data."""

from dataclasses import dataclass

from .server import ServerConfig, ServerStats

__all__ = ["Socks4Config", "Socks4Stats"]


@dataclass(frozen=True, kw_only=True)
class Socks4Config(ServerConfig):
    """What a proxy is told. `allowed_users`: None for any user id; none of them is ever proved."""

    listen: tuple[str, int] = ("127.0.0.1", 1080)
    request_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 10.0
    allowed_users: frozenset[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Socks4Stats(ServerStats):
    """What a proxy counts. Bytes are those relayed, without requests and replies.

    A client that left was connected, refused, or neither if it timed out or broke off before; one
    that timed out or broke off later counts there as well.
    """

    connected: int
    refused: int
    bytes_to_target: int
    bytes_to_client: int
