# SPDX-License-Identifier: MIT
"""Clients and servers for the tests of the connection layer, and their rows in a snapshot."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.kernel.children import TIMEOUT_SECONDS
from tracer.model.aggregate import Aggregate
from tracer.model.connections import Connection, Peer
from tracer.model.histogram import UPPER_BOUNDS_SECONDS
from tracer.session import Session

__all__ = [
    "LOOPBACK",
    "bound",
    "connections_of",
    "durations_agree",
    "listening",
    "peer_of",
    "serving",
    "slot_of",
    "timed",
]

LOOPBACK = "127.0.0.1"

# The program's own clock includes its own work between two calls: milliseconds under emulation.
_SLOTS_APART = 8 if os.environ.get("LUNATIK_SOCKET_RING", "").startswith("kernel/") else 1
_ports_used: set[int] = set()


def peer_of(session: Session, role: str, port: int, *, transport: str = "tcp") -> Peer:
    """The one row of this role and service port."""
    found = session.snapshot().connections
    assert found is not None
    [row] = [p for p in found.peers if (p.role, p.port, p.transport) == (role, port, transport)]
    return row


def connections_of(session: Session, role: str, port: int) -> list[Connection]:
    """The sockets of this role and service port."""
    found = session.snapshot().connections
    assert found is not None
    return [
        one
        for one in found.connections
        if one.role == role and port == (one.peer_port if role == "client" else one.local_port)
    ]


@contextmanager
def listening(backlog: int = 64) -> Iterator[tuple[socket.socket, tuple[str, int]]]:
    """A listener on a free port of loopback, and its address."""
    with _fresh(lambda: socket.create_server((LOOPBACK, 0), backlog=backlog)) as listener:
        listener.settimeout(TIMEOUT_SECONDS)
        yield listener, listener.getsockname()


def bound(kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A socket bound to a free port of loopback; one of TCP refuses connections."""

    def make() -> socket.socket:
        one = socket.socket(type=kind)
        one.bind((LOOPBACK, 0))
        return one

    return _fresh(make)


def _fresh(make: Callable[[], socket.socket]) -> socket.socket:
    """A socket on a port that no test has used: the numbers of a peer are found by its port."""
    while True:
        one = make()
        port = one.getsockname()[1]
        if port not in _ports_used:
            _ports_used.add(port)
            return one
        one.close()


@contextmanager
def serving(answer: Callable[[bytes], bytes], *, connections: int = 1) -> Iterator[tuple[str, int]]:
    """A server with a thread for each connection, that answers what `answer` returns."""
    with listening() as (listener, address):
        threads = [
            threading.Thread(target=_serve, args=(listener, answer)) for _ in range(connections)
        ]
        for thread in threads:
            thread.start()
        yield address
        for thread in threads:
            thread.join(TIMEOUT_SECONDS)
            assert not thread.is_alive()


def _serve(listener: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        while request := connection.recv(100):
            connection.sendall(answer(request))


def slot_of(seconds: float) -> int:
    """The slot of the histogram that holds this duration."""
    return next(i for i, bound in enumerate(UPPER_BOUNDS_SECONDS) if seconds <= bound)


def durations_agree(aggregate: Aggregate, own: list[float]) -> None:
    """Check that the histogram has these durations (s), each within one slot.

    Under emulation, within eight, a factor of two.
    """
    slots = [i for i, count in enumerate(aggregate.slots) for _ in range(count)]
    assert len(slots) == len(own) == aggregate.count
    for slot, seconds in zip(slots, sorted(own), strict=True):
        assert abs(slot - slot_of(seconds)) <= _SLOTS_APART, (slot, slot_of(seconds), seconds)


def timed(action: Callable[[], object]) -> float:
    """How long the action takes, in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
