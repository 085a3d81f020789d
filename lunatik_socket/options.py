# SPDX-License-Identifier: MIT
"""Names of families, types, option levels and options, and the kernel's numbers for them."""

from __future__ import annotations

import _socket
from collections.abc import Sequence
from struct import Struct
from types import MappingProxyType
from typing import NamedTuple

__all__ = [
    "FAMILIES",
    "LINGER_BYTES",
    "TYPES",
    "Option",
    "every_option",
    "family_number",
    "find_option",
    "level",
    "option_value",
    "optname",
    "pack_linger",
    "type_number",
    "unpack_linger",
]

FAMILIES = {"inet": _socket.AF_INET, "i": _socket.AF_INET}
TYPES = {
    "tcp": _socket.SOCK_STREAM,
    "t": _socket.SOCK_STREAM,
    "udp": _socket.SOCK_DGRAM,
    "u": _socket.SOCK_DGRAM,
}


def family_number(family: object) -> int:
    """Return the AF_ number of a family's name."""
    if isinstance(family, str) and family in FAMILIES:
        return FAMILIES[family]
    raise ValueError(f'invalid family name {family!r}: must be "inet" or "i"')


def type_number(kind: object) -> int:
    """Return the SOCK_ number of a type's name."""
    if isinstance(kind, str) and kind in TYPES:
        return TYPES[kind]
    raise ValueError(f'invalid type name {kind!r}: must be "tcp", "t", "udp" or "u"')


class Option(NamedTuple):
    """The numbers of an option's level and name for getsockopt(2)."""

    level: int
    number: int
    is_linger: bool


# Python does not define these. The numbers are from asm-generic/socket.h.
_SO_NO_CHECK = 11
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33

_LEVELS = {
    "s": ("SOL_SOCKET", _socket.SOL_SOCKET),
    "t": ("IPPROTO_TCP", _socket.IPPROTO_TCP),
    "u": ("IPPROTO_UDP", _socket.IPPROTO_UDP),
    "r": ("IPPROTO_RAW", _socket.IPPROTO_RAW),
    "i": ("IPPROTO_IP", _socket.IPPROTO_IP),
}
# No name is used twice, not even in two levels, so that `optname` can be one flat table.
_OPTIONS = {
    "s": {
        "b": ("SO_BROADCAST", _socket.SO_BROADCAST),
        "d": ("SO_DEBUG", _socket.SO_DEBUG),
        "dt": ("SO_DONTROUTE", _socket.SO_DONTROUTE),
        "e": ("SO_ERROR", _socket.SO_ERROR),
        "k": ("SO_KEEPALIVE", _socket.SO_KEEPALIVE),
        "l": ("SO_LINGER", _socket.SO_LINGER),
        "n": ("SO_NO_CHECK", _SO_NO_CHECK),
        "o": ("SO_OOBINLINE", _socket.SO_OOBINLINE),
        "p": ("SO_PRIORITY", _socket.SO_PRIORITY),
        "r": ("SO_RCVBUF", _socket.SO_RCVBUF),
        "rf": ("SO_RCVBUFFORCE", _SO_RCVBUFFORCE),
        "ra": ("SO_REUSEADDR", _socket.SO_REUSEADDR),
        "rp": ("SO_REUSEPORT", _socket.SO_REUSEPORT),
        "s": ("SO_SNDBUF", _socket.SO_SNDBUF),
        "sf": ("SO_SNDBUFFORCE", _SO_SNDBUFFORCE),
        "t": ("SO_TYPE", _socket.SO_TYPE),
    },
    "t": {
        "nd": ("TCP_NODELAY", _socket.TCP_NODELAY),
        "c": ("TCP_CORK", _socket.TCP_CORK),
        "ki": ("TCP_KEEPIDLE", _socket.TCP_KEEPIDLE),
        "kv": ("TCP_KEEPINTVL", _socket.TCP_KEEPINTVL),
        "kc": ("TCP_KEEPCNT", _socket.TCP_KEEPCNT),
        "ut": ("TCP_USER_TIMEOUT", _socket.TCP_USER_TIMEOUT),
        "q": ("TCP_QUICKACK", _socket.TCP_QUICKACK),
        "da": ("TCP_DEFER_ACCEPT", _socket.TCP_DEFER_ACCEPT),
        "f": ("TCP_FASTOPEN", _socket.TCP_FASTOPEN),
    },
}

level = MappingProxyType({name: kernel_name for name, (kernel_name, _) in _LEVELS.items()})
"""Names of option levels, each with its name in the kernel."""

optname = MappingProxyType(
    {name: kernel_name for table in _OPTIONS.values() for name, (kernel_name, _) in table.items()}
)
"""Names of options, each with its name in the kernel. SO_ options are of level s, TCP_ of t."""


def find_option(level_name: object, option_name: object) -> Option:
    """Return the numbers of an option. An unknown level or name raises ValueError."""
    if not isinstance(level_name, str) or level_name not in _LEVELS:
        raise ValueError(f"invalid level name {level_name!r}: must be one of {' '.join(_LEVELS)}")
    known = _OPTIONS.get(level_name, {})
    if not isinstance(option_name, str) or option_name not in known:
        names = f"must be one of {' '.join(known)}" if known else "the level has none"
        raise ValueError(f"invalid option name {option_name!r} of level {level_name!r}: {names}")
    number = known[option_name][1]
    return Option(_LEVELS[level_name][1], number, option_name == "l")


def every_option() -> list[tuple[int, int]]:
    """Return the numbers of the level and the option of every option that is documented."""
    return [
        (_LEVELS[name][1], number)
        for name, known in _OPTIONS.items()
        for _, number in known.values()
    ]


def option_value(value: object) -> int:
    """Return `value` if it is an integer that fits a C int."""
    if not isinstance(value, int):
        raise TypeError(f"val must be an integer, not {type(value).__name__}")
    if -0x80000000 <= value <= 0x7FFFFFFF:
        return int(value)
    raise ValueError(f"val out of range: {value} (must fit 32 bits, signed)")


_LINGER = Struct("@2i")
LINGER_BYTES = _LINGER.size


def pack_linger(value: object) -> bytes:
    """Return the C struct of SO_LINGER for `(on, seconds)`."""
    if isinstance(value, Sequence) and len(value) == 2:
        return _LINGER.pack(option_value(value[0]), option_value(value[1]))
    raise TypeError(f'val of option "l" must be (on, seconds), not {value!r}')


def unpack_linger(value: bytes) -> tuple[int, int]:
    """Return `(on, seconds)` from the C struct of SO_LINGER."""
    on, seconds = _LINGER.unpack(value)
    return on, seconds
