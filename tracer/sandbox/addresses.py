# SPDX-License-Identifier: MIT
"""Which addresses a script in a sandbox may use: patterns such as `10.0.0.0/8:443`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["LOOPBACK", "Address", "Allowed", "Pattern", "parse"]

Address = tuple[IPv4Address | IPv6Address, int]

_TEXT = re.compile(r"(?:\[(?P<six>[^]]+)\]|(?P<four>[^:]+)):(?P<ports>\*|[0-9]+(?:-[0-9]+)?)")
_HINT = "is not ADDR:PORT (e.g. 10.0.0.7:443, 10.0.0.0/8:*, *:8000-8100, [::1]:80)"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Addresses of a network (None: every address) with ports from `lowest` to `highest`."""

    network: IPv4Network | IPv6Network | None
    lowest: int
    highest: int

    def matches(self, address: Address) -> bool:
        """Whether `address` is one of these."""
        ip, port = address
        if not self.lowest <= port <= self.highest:
            return False
        return self.network is None or (ip.version == self.network.version and ip in self.network)


def parse(text: str) -> Pattern:
    """Read `ADDR:PORT`. ADDR may be a network or `*`, PORT a range or `*`. Raises ValueError."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text}" {_HINT}')
    name = match["six"] or match["four"]
    try:
        network = None if name == "*" else ip_network(name, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" {_HINT}') from None
    if network is not None and (network.version == 6) != (match["six"] is not None):
        raise ValueError(f'"{text}" {_HINT}')
    first, _, last = match["ports"].partition("-")
    lowest, highest = (0, 65535) if first == "*" else (int(first), int(last or first))
    if not lowest <= highest <= 65535:
        raise ValueError(f'"{text}" {_HINT}')
    return Pattern(network, lowest, highest)


LOOPBACK = (parse("127.0.0.0/8:*"), parse("[::1]:*"))
"""What a script may use unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The addresses that a script may connect and send to, and those that it may bind to."""

    connect: tuple[Pattern, ...] = LOOPBACK
    listen: tuple[Pattern, ...] = LOOPBACK

    def may_connect(self, address: Address) -> bool:
        """Whether a connection or a datagram may go to `address`."""
        ip, port = _plain(address)
        # A destination of all zeros is this host.
        if ip.is_unspecified:
            ip = ip_address("127.0.0.1" if ip.version == 4 else "::1")
        return _any_matches(self.connect, (ip, port))

    def may_listen(self, address: Address) -> bool:
        """Whether a socket may be bound to `address`; all zeros are every address of the host."""
        return _any_matches(self.listen, _plain(address))


def _any_matches(patterns: Iterable[Pattern], address: Address) -> bool:
    return any(pattern.matches(address) for pattern in patterns)


def _plain(address: Address) -> Address:
    """An IPv4 address as IPv4, also if an IPv6 socket is given it as ::ffff:10.0.0.7."""
    ip, port = address
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped, port
    return ip, port
