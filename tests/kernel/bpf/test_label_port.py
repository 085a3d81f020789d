# SPDX-License-Identifier: MIT
"""The label "port": the port of the service, on both sides of a connection."""

import contextlib
import os
import socket
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import lunatik_socket
from lunatik_socket import Socket
from tests.kernel.bpf.sockets import N
from tracer.model.config import Config, Filter
from tracer.model.snapshot import difference
from tracer.session import Session

OPERATIONS = ("bind", "listen", "accept", "connect", "send", "recv", "getpeername", "close")
SERVICE_ABOVE = (False, True)


@dataclass
class Connection:
    """A server and a client that are bound, each to a port; what they had before tracing began."""

    server: Socket
    client: Socket
    accepted: Socket | None = None

    def connect(self) -> None:
        if self.accepted is None:
            self.client.connect(*self.server.getsockname())
            self.accepted = self.server.accept()


def bound(service_above: bool) -> Connection:
    """Either of the two is bound to the higher port."""
    one, two = (lunatik_socket.new() for _ in range(2))
    one.bind("127.0.0.1", 0)
    two.bind("127.0.0.1", 0)
    lower, higher = sorted((one, two), key=lambda sock: sock.getsockname()[1])
    return Connection(higher, lower) if service_above else Connection(lower, higher)


def listening(service_above: bool) -> Connection:
    connection = bound(service_above)
    connection.server.listen(1)
    return connection


def connected(service_above: bool) -> Connection:
    connection = listening(service_above)
    connection.connect()
    return connection


@dataclass
class Traced:
    """A session for all tests here, and sockets that are older than it."""

    session: Session
    listeners: dict[bool, Connection]
    connections: dict[bool, Connection]

    @contextmanager
    def calls(self) -> Iterator[dict[str, Counter[str | None]]]:
        """Calls by operation and port, without those on a socket that has no port."""
        result: dict[str, Counter[str | None]] = defaultdict(Counter)
        before = self.session.snapshot()
        yield result
        for series in difference(before, self.session.snapshot()).operations:
            if series.label != "0":
                result[series.name][series.label] += series.aggregate.count


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    listeners = {above: listening(above) for above in SERVICE_ABOVE}
    connections = {above: connected(above) for above in SERVICE_ABOVE}
    config = Config(
        filter=Filter(pids=(os.getpid(),)),
        label="port",
        operations=OPERATIONS,
        mechanism="tracepoint",
    )
    with Session(config) as session:
        yield Traced(session, listeners, connections)


def exchange(connection: Connection) -> None:
    """N messages in both directions, N of them received, then close all three sockets."""
    accepted = connection.accepted
    assert accepted is not None
    for _ in range(N):
        connection.client.send(b"x")
        accepted.send(b"x")
        accepted.recv(1)
    for sock in (connection.client, accepted, connection.server):
        sock.close()


@pytest.mark.parametrize("service_above", SERVICE_ABOVE)
def test_port_of_a_service(traced: Traced, service_above: bool) -> None:
    connection = bound(service_above)
    address = connection.server.getsockname()
    connection.server.close()
    with traced.calls() as calls:
        connection.server = lunatik_socket.new()
        connection.server.bind(*address)
        connection.server.listen(1)
        connection.connect()
        exchange(connection)
    port = str(address[1])
    assert calls["bind"] == calls["listen"] == {port: 1}
    assert calls["connect"] == calls["accept"] == {port: 1}
    assert calls["send"] == {port: 2 * N}
    assert calls["recv"] == {port: N}
    assert calls["close"] == {port: 3}


@pytest.mark.parametrize("service_above", SERVICE_ABOVE)
def test_port_of_a_service_that_is_older_than_the_trace(
    traced: Traced, service_above: bool
) -> None:
    connection = traced.listeners.pop(service_above)
    port = str(connection.server.getsockname()[1])
    with traced.calls() as calls:
        connection.connect()
        exchange(connection)
    assert calls["connect"] == calls["accept"] == {port: 1}
    assert calls["send"] == {port: 2 * N}
    assert calls["recv"] == {port: N}
    assert calls["close"] == {port: 3}


@pytest.mark.parametrize("service_above", SERVICE_ABOVE)
def test_port_of_a_connection_that_is_older_than_the_trace(
    traced: Traced, service_above: bool
) -> None:
    connection = traced.connections.pop(service_above)
    port = str(connection.server.getsockname()[1])
    with traced.calls() as calls:
        exchange(connection)
    assert calls["send"] == {port: 2 * N}
    assert calls["recv"] == {port: N}
    assert calls["close"] == {port: 3}


def test_port_of_a_refused_connect(traced: Traced) -> None:
    with socket.socket() as silent, traced.calls() as calls:
        silent.bind(("127.0.0.1", 0))
        for _ in range(N):
            with socket.socket() as client, pytest.raises(ConnectionRefusedError):
                client.connect(silent.getsockname())
        port = str(silent.getsockname()[1])
    assert calls["connect"] == {port: N}


def test_port_of_a_reset_socket_stays(traced: Traced) -> None:
    connection = listening(service_above=True)
    port = str(connection.server.getsockname()[1])
    client = connection.client
    with traced.calls() as calls:
        connection.connect()
        assert connection.accepted is not None
        # Closed with unread data: a reset.
        client.send(b"x")
        connection.accepted.close()
        for _ in range(N):
            for call in (lambda: client.send(b"x"), client.getpeername):
                with contextlib.suppress(OSError):
                    call()
        client.close()
    assert calls["getpeername"] == {port: N}
    assert calls["send"] == {port: N + 1}
    assert calls["close"] == {port: 2}


def test_port_of_datagram_sockets(traced: Traced) -> None:
    """The bound port; the peer's if it is connected."""
    server, client = (lunatik_socket.new("inet", "udp") for _ in range(2))
    with traced.calls() as calls:
        server.bind("127.0.0.1", 0)
        address = server.getsockname()
        client.connect(*address)
        for _ in range(N):
            client.send(b"x")
            server.recv(1)
    port = str(address[1])
    assert calls == {
        "bind": {port: 1},
        "connect": {port: 1},
        "send": {port: N},
        "recv": {port: N},
    }
