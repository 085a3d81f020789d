# SPDX-License-Identifier: MIT
"""Makes connected sockets of the API on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lunatik_socket import Socket, new


@contextmanager
def listening(backlog: int = 8) -> Iterator[tuple[Socket, str, int]]:
    with new() as listener:
        listener.bind("127.0.0.1", 0)
        listener.listen(backlog)
        yield listener, *listener.getsockname()


@contextmanager
def tcp_pair() -> Iterator[tuple[Socket, Socket]]:
    """Yield the connecting socket and the accepted socket."""
    with ExitStack() as stack:
        listener, ip, port = stack.enter_context(listening())
        client = stack.enter_context(new())
        client.connect(ip, port)
        yield client, stack.enter_context(listener.accept())


@contextmanager
def udp_pair() -> Iterator[tuple[Socket, Socket]]:
    """Yield two bound sockets that are not connected to each other."""
    with new("inet", "udp") as one, new("inet", "udp") as other:
        one.bind("127.0.0.1", 0)
        other.bind("127.0.0.1", 0)
        yield one, other


def refused_port() -> int:
    """Return a port of loopback without a listener."""
    with new() as sock:
        sock.bind("127.0.0.1", 0)
        return sock.getsockname()[1]
