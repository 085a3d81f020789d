# SPDX-License-Identifier: MIT
"""Checks IPv4 addresses and ports and converts them for Python's socket methods."""

from __future__ import annotations

import _socket
from _socket import AF_INET, inet_ntoa, inet_pton

__all__ = ["Address", "endpoint", "ip_string", "port_number", "shown"]

Address = tuple[str, int]


def ip_string(ip: object) -> str:
    """Return the dotted form of `ip`: a dotted string, or an integer in host order.

    Host names are not looked up: a look-up would make system calls that are not documented.
    """
    if isinstance(ip, str):
        return _checked(ip)
    if isinstance(ip, int):
        if 0 <= ip <= 0xFFFFFFFF:
            return inet_ntoa(ip.to_bytes(4, "big"))
        raise ValueError(f"address out of range: {ip:#x} (must be 0 to 0xffffffff)")
    raise TypeError(f"address must be a string or an integer, not {type(ip).__name__}")


def _checked(ip: str) -> str:
    try:
        inet_pton(AF_INET, ip)
    except (_socket.error, ValueError):
        raise ValueError(f'invalid address {ip!r}: must be like "127.0.0.1"') from None
    return ip


def port_number(port: object, lowest: int = 1) -> int:
    """Return `port` if it is `lowest` to 65535. With port 0, bind lets the kernel pick one."""
    if not isinstance(port, int):
        raise TypeError(f"port must be an integer, not {type(port).__name__}")
    if lowest <= port <= 65535:
        return port
    raise ValueError(f"Port number out of range: {port} (must be {lowest} to 65535)")


def endpoint(ip: object, port: object, lowest_port: int = 1) -> Address:
    """Return `(ip, port)`, checked, in the form that Python's socket methods take."""
    return ip_string(ip), port_number(port, lowest_port)


def shown(address: Address) -> str:
    """Return `"ip:port"` for messages."""
    return f"{address[0]}:{address[1]}"
