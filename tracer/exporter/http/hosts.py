# SPDX-License-Identifier: MIT
"""The check of the Host header, against DNS rebinding.

A web page of a stranger may let its own host name resolve to 127.0.0.1. The browser then believes
that the exporter belongs to that page, and lets the page read it. But the Host header still has the
page's name. So on loopback only names are answered that no stranger can own: IP addresses,
`localhost`, and those that the user lists.
"""

import contextlib
import ipaddress
from collections.abc import Collection

__all__ = ["is_known_host", "is_loopback"]


def is_loopback(address: str) -> bool:
    """Whether this IP address is of the machine itself; false for anything but an address."""
    with contextlib.suppress(ValueError):
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            return parsed.ipv4_mapped.is_loopback
        return parsed.is_loopback
    return False


def is_known_host(header: str, names: Collection[str]) -> bool:
    """Whether a Host header (a host, perhaps a port) is an IP address or one of these names."""
    header = header.strip()
    if header.startswith("["):
        host, bracket, port = header[1:].partition("]")
        if not bracket or port[:1] not in ("", ":"):
            return False
    else:
        host, _, port = header.partition(":")
    host = host.lower().removesuffix(".")
    if host == "localhost" or host in names:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
