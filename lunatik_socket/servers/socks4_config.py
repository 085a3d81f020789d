# SPDX-License-Identifier: MIT
"""What a SOCKSv4 proxy is told, and what it tells: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Socks4Config", "Socks4Stats"]


@dataclass(frozen=True, kw_only=True)
class Socks4Config:
    """What a proxy is told. `allowed_users` None: any user id, since none is proved anyway."""

    listen: tuple[str, int] = ("127.0.0.1", 1080)
    max_clients: int = 2000
    backlog: int = 4096
    request_timeout_seconds: float = 10.0
    connect_timeout_seconds: float = 10.0
    idle_timeout_seconds: float = 300.0
    grace_seconds: float = 5.0
    allowed_users: frozenset[str] | None = None
    tally: bool = False

    def __post_init__(self) -> None:
        for name in ("max_clients", "backlog"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("request", "connect", "idle"):
            if not getattr(self, f"{name}_timeout_seconds") > 0:
                value = getattr(self, f"{name}_timeout_seconds")
                raise ValueError(f"{name}_timeout_seconds must be positive, not {value}")
        if not self.grace_seconds >= 0:
            raise ValueError(f"grace_seconds must be 0 or more, not {self.grace_seconds}")


@dataclass(frozen=True, kw_only=True)
class Socks4Stats:
    """Counts since `open`, but `active`, which is now. Bytes are those relayed, without requests.

    A client that left was connected, refused, or neither if it timed out or broke off before; one
    that timed out or broke off later counts there as well.

    `calls`, `errors` and `call_bytes` are the documented calls made, by operation (errors by errno
    name too); empty without `Socks4Config.tally`.
    """

    accepted: int
    active: int
    connected: int
    refused: int
    timed_out: int
    broken: int
    bytes_to_target: int
    bytes_to_client: int
    calls: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[tuple[str, str], int] = field(default_factory=dict)
    call_bytes: Mapping[str, int] = field(default_factory=dict)
