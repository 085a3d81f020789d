# SPDX-License-Identifier: MIT
"""The UDP side of the echo server: sends each datagram back to its sender.

The source of a datagram is easily forged. A datagram that claims to come from a service that
answers everything, such as another echo server, would start an exchange without end.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable

from .limits import RareWarning
from .loop import DO_NOT_WAIT, Loop

__all__ = ["DatagramEcho", "RateLimit"]

_MAX_DATAGRAM_BYTES = 65535
# After this many datagrams in a row the TCP clients get their turn.
_DATAGRAMS_AT_ONCE = 32
# Below it are the well-known ports: echo (7), chargen (19), DNS (53) and others that answer what
# they do not understand. Clients use ports above.
_FIRST_CLIENT_PORT = 1024
_BURST_SECONDS = 10
_MAX_ADDRESSES = 4096


class RateLimit:
    """How many datagrams of each address are answered: a token bucket for each.

    `per_second` in the long run, and ten times as many at once after a time without. An exchange
    between two echo servers that is faster ends when the bucket is empty. The addresses that were
    quiet for longest are forgotten first.
    """

    def __init__(self, per_second: int, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._most = per_second * _BURST_SECONDS
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def allows(self, address: str) -> bool:
        """Count one datagram of `address`; whether it may be answered."""
        now = self._now()
        tokens, when = self._buckets.pop(address, (self._most, now))
        tokens = min(self._most, tokens + (now - when) * self._per_second)
        allowed = tokens >= 1
        self._buckets[address] = tokens - allowed, now
        if len(self._buckets) > _MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed


class DatagramEcho:
    """The socket. `echoed`, `bytes` and `dropped` are its counts."""

    def __init__(
        self, loop: Loop, address: tuple[str, int], per_second: int, log: logging.Logger
    ) -> None:
        self.echoed = self.bytes = self.dropped = 0
        self._own_port = address[1]
        self._loop = loop
        self._log = log
        self._rate = RateLimit(per_second, lambda: loop.now)
        self._warn_of_port = RareWarning(log, lambda: loop.now)
        self._warn_of_rate = RareWarning(log, lambda: loop.now)
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
                self._log.info("datagram: %s", error)
                continue
            self._answer(msghdr["name"], size)

    def _answer(self, name: object, size: int) -> None:
        assert isinstance(name, dict)
        sender = f"{name['addr']}:{name['port']}"
        if name["port"] < _FIRST_CLIENT_PORT or name["port"] == self._own_port:
            self.dropped += 1
            self._warn_of_port(
                f"{sender}: datagram dropped: it comes from a port of an echo server or of another "
                "well-known service"
            )
            return
        if not self._rate.allows(name["addr"]):
            self.dropped += 1
            self._warn_of_rate(f"{sender}: datagram dropped: too many of this address")
            return
        try:
            self._sock.sendmsg({"name": name, "flags": DO_NOT_WAIT}, self._buffer[:size])
        except OSError as error:
            self.dropped += 1
            self._log.info("%s: datagram dropped: %s", sender, error)
        else:
            self.echoed += 1
            self.bytes += size
