# SPDX-License-Identifier: MIT
"""The msghdr of sendmsg and recvmsg: a dict with the names of the kernel's `struct msghdr`.

`iov_len` is a length in bytes, `flags` the flags, `name` an address: `{"addr": ip, "port": port}`
or `(ip, port)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .address import Address, endpoint
from .flags import flags_value

__all__ = [
    "MsgHdr",
    "checked",
    "describe",
    "destination",
    "length_wanted",
    "positive_length",
    "send_flags",
]

MsgHdr = dict[str, Any]


def checked(msghdr: object) -> MsgHdr:
    """Return `msghdr` if it is a dict."""
    if isinstance(msghdr, dict):
        return msghdr
    raise TypeError(f"msghdr must be a dict, not {type(msghdr).__name__}")


def length_wanted(msghdr: MsgHdr) -> int:
    """Return how many bytes to receive: `iov_len`, or `lov_len`, a spelling of the document."""
    length = msghdr.get("iov_len", msghdr.get("lov_len"))
    if length is None:
        raise ValueError("'iov_len' can not be empty")
    return positive_length("'iov_len'", length)


def positive_length(what: str, length: object, bits: int = 63) -> int:
    """Return `length` if it is an integer from 1 to 2^bits - 1."""
    if not isinstance(length, int):
        raise TypeError(f"{what} must be an integer, not {type(length).__name__}")
    if 0 < length < 1 << bits:
        return length
    raise ValueError(f"{what} must be positive and below 2^{bits}, not {length}")


def destination(msghdr: MsgHdr) -> Address | None:
    """Return the destination in `name`, or None for the peer of a connected socket."""
    name = msghdr.get("name")
    if name is None:
        return None
    if isinstance(name, dict):
        return endpoint(*_named_pair(name))
    if isinstance(name, Sequence) and not isinstance(name, str | bytes) and len(name) == 2:
        return endpoint(name[0], name[1])
    raise TypeError(f"'name' must be {{addr, port}} or (ip, port), not {name!r}")


def _named_pair(name: dict[str, Any]) -> tuple[Any, Any]:
    missing = [key for key in ("addr", "port") if name.get(key) is None]
    if missing:
        raise ValueError(f"'name' can not be without '{missing[0]}'")
    return name["addr"], name["port"]


def send_flags(msghdr: MsgHdr) -> int:
    """Return the flags to send with."""
    return flags_value(msghdr.get("flags", 0))


def describe(msghdr: MsgHdr, length: int, flags: int, name: Address | None) -> MsgHdr:
    """Write what the kernel reported of the received message into `msghdr`, and return it.

    `iov_len` is the length asked for, not the size received, so that the same dict can be used for
    the next recvmsg.
    """
    msghdr["iov_len"] = length
    msghdr["flags"] = flags
    if name is None:
        msghdr.pop("name", None)
    else:
        msghdr["name"] = {"addr": name[0], "port": name[1]}
    return msghdr
