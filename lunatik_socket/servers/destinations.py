# SPDX-License-Identifier: MIT
"""Which destinations a proxy may connect to, by address and port."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Self

from .limits import is_loopback

__all__ = ["DestinationRule", "Destinations"]

_PORTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*", re.ASCII)
_HIGHEST_PORT = 65535
# Services that trust every local client listen on loopback. Link-local addresses are those of the
# machine's own links, and 169.254.169.254 gives out the credentials of a cloud machine.
_LOCAL = (IPv4Network("127.0.0.0/8"), IPv4Network("169.254.0.0/16"))
_LOCAL_DENIED = (
    "loopback and link-local destinations are denied to clients of other machines; "
    "allow it by a rule of its own"
)


@dataclass(frozen=True, slots=True)
class DestinationRule:
    """A network and the ports in it. `text` is the rule as it was written."""

    text: str
    network: IPv4Network
    ports: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NETWORK` or `NETWORK:PORTS`, such as `10.0.0.0/8:80,8000-8100`; `*` is any network.

        Raises ValueError.
        """
        network, colon, ports = text.partition(":")
        if colon and not _PORTS.fullmatch(ports):
            raise ValueError(f'"{ports}" in "{text}" is not PORT, PORT-PORT or a list of them')
        return cls(text, _network(network, text), _port_ranges(ports, text))

    def matches(self, address: IPv4Address, port: int) -> bool:
        """Whether the rule is about this destination."""
        return address in self.network and any(low <= port <= high for low, high in self.ports)

    @property
    def is_local(self) -> bool:
        """Whether the rule is about loopback or link-local destinations only."""
        return any(self.network.subnet_of(local) for local in _LOCAL)


class Destinations:
    """The rules of a proxy, checked with the address that it is about to connect to.

    A destination is denied if a rule in `denied` matches. If there are rules in `allowed`, one of
    them must match. Loopback and link-local destinations are denied to clients that are not on
    loopback, unless a matching rule in `allowed` is about nothing else.
    """

    def __init__(self, allowed: Iterable[str] = (), denied: Iterable[str] = ()) -> None:
        self._allowed = tuple(map(DestinationRule.parse, allowed))
        self._denied = tuple(map(DestinationRule.parse, denied))

    def refusal(self, address: str, port: int, client: str) -> str:
        """Return why `client` may not connect to `address` and `port`; "" if it may."""
        trusted = is_loopback(client)
        if trusted and not self._allowed and not self._denied:
            return ""
        destination = IPv4Address(address)
        for rule in self._denied:
            if rule.matches(destination, port):
                return f'{address}:{port} is denied by the rule "{rule.text}"'
        matching = [rule for rule in self._allowed if rule.matches(destination, port)]
        if self._allowed and not matching:
            return f"{address}:{port} is not in the list of allowed destinations"
        is_local = any(destination in network for network in _LOCAL)
        if is_local and not trusted and not any(rule.is_local for rule in matching):
            return _LOCAL_DENIED
        return ""


def _network(text: str, rule: str) -> IPv4Network:
    if text == "*":
        return IPv4Network("0.0.0.0/0")
    try:
        return IPv4Network(text)
    except (AddressValueError, NetmaskValueError):
        raise ValueError(
            f'"{text}" in "{rule}" is not an IPv4 network (e.g. 10.0.0.0/8, 192.0.2.1)'
        ) from None
    except ValueError:
        network = IPv4Network(text, strict=False)
        raise ValueError(
            f'"{text}" in "{rule}" has bits set after its prefix; write {network}'
        ) from None


def _port_ranges(text: str, rule: str) -> tuple[tuple[int, int], ...]:
    if not text:
        return ((0, _HIGHEST_PORT),)
    ranges = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        first, last = int(low), int(high or low)
        if not 1 <= first <= last <= _HIGHEST_PORT:
            raise ValueError(f'"{part}" in "{rule}" is not a port or a range of ports')
        ranges.append((first, last))
    return tuple(ranges)
