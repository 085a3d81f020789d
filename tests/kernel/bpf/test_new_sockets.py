# SPDX-License-Identifier: MIT
"""Under which port socket(2) counts with --by port, and that no call of it is missing."""

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Callable

import pytest

from tests.kernel.bpf.sockets import N
from tests.kernel.children import Child
from tests.kernel.mechanisms import require
from tracer.exporter import metrics
from tracer.exporter.families import family
from tracer.model.config import Config, Filter
from tracer.model.snapshot import NO_PORT_YET, Snapshot
from tracer.session import Session

TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
CALLS = ("new", "bind", "listen", "accept", "connect", "send", "sendmsg", "close")


def by_port(mechanism: str = "tracepoint", operations: tuple[str, ...] = CALLS) -> Config:
    return Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        label="port",
        operations=operations,
        mechanism=mechanism,
    )


def new(snapshot: Snapshot) -> dict[str | None, int]:
    counts: Counter[str | None] = Counter()
    for series in snapshot.operations:
        if (series.name, series.path) == ("new", "user") and series.transport in ("tcp", "udp"):
            assert sum(series.aggregate.slots) == series.aggregate.count
            counts[series.label] += series.aggregate.count
    return dict(counts)


def bound(kind: int) -> tuple[socket.socket, str]:
    sock = socket.socket(type=kind)
    sock.bind(("127.0.0.1", 0))
    return sock, str(sock.getsockname()[1])


def test_a_connection_s_new_counts_under_its_service_s_port() -> None:
    with Session(by_port()) as session:
        server, port = bound(TCP)
        assert new(session.snapshot()) == {NO_PORT_YET: 1}  # it may still connect
        server.listen()
        assert new(session.snapshot()) == {port: 1}
        for i in range(N):
            with socket.socket() as client:
                assert new(session.snapshot()) == {port: 1 + i, NO_PORT_YET: 1}
                client.bind(("127.0.0.1", 0))
                client.connect(server.getsockname())
            server.accept()[0].close()
        server.close()
        assert new(session.snapshot()) == {port: 1 + N}


@pytest.mark.parametrize(
    "gives_port",
    [
        lambda sock, _: sock.bind(("127.0.0.1", 0)),
        lambda sock, peer: sock.connect(peer),
        lambda sock, peer: sock.sendto(b"x", peer),
        lambda sock, peer: sock.sendmsg([b"x"], [], 0, peer),
    ],
    ids=["bind", "connect", "sendto", "sendmsg"],
)
def test_a_datagram_socket_s_new_counts_under_its_first_port(
    gives_port: Callable[[socket.socket, tuple[str, int]], object],
) -> None:
    peer, _ = bound(UDP)
    with peer, Session(by_port()) as session, socket.socket(type=UDP) as sock:
        assert new(session.snapshot()) == {NO_PORT_YET: 1}
        gives_port(sock, peer.getsockname())
        own, peers = sock.getsockname()[1], peer.getsockname()[1]
        with contextlib.suppress(OSError):
            own = sock.getpeername()[1] and peers
        assert new(session.snapshot()) == {str(own): 1}


@pytest.mark.parametrize("kind", [TCP, UDP])
def test_a_socket_that_never_has_a_port_counts_under_0(kind: int) -> None:
    with Session(by_port()) as session:
        for _ in range(N):
            socket.socket(type=kind).close()
        assert new(session.snapshot()) == {"0": N}


def test_a_failed_call_and_other_transports_count_under_0() -> None:
    with Session(by_port()) as session:
        for _ in range(N):
            with pytest.raises(OSError, match="not supported"):
                socket.socket(socket.AF_INET, TCP, socket.IPPROTO_UDP)
            socket.socket(socket.AF_UNIX).close()
        snapshot = session.snapshot()
    labels = {(s.label, s.aggregate.count) for s in snapshot.operations if s.name == "new"}
    assert labels == {("0", N)}
    assert snapshot.total("new").count == 2 * N


def test_a_tcp_socket_s_new_counts_under_its_port_if_connect_is_not_traced() -> None:
    with Session(by_port(operations=("new",))) as session:
        server, port = bound(TCP)
        server.listen()
        socket.create_connection(server.getsockname()).close()
        server.close()
        assert new(session.snapshot()) == {port: 2}


def test_a_call_that_waits_for_its_port_is_not_exported() -> None:
    """Its number falls when the port is known, and a counter must not."""
    with Session(by_port()) as session, socket.socket():
        snapshot = session.snapshot()
    assert new(snapshot) == {NO_PORT_YET: 1}
    assert not family(metrics.DURATION, snapshot).samples


@pytest.mark.parametrize("mechanism", ["tracepoint", "kprobe"])
def test_the_sum_is_exact_under_load_with_snapshots_in_between(mechanism: str) -> None:
    require(mechanism)
    server, port = bound(TCP)
    server.listen(4096)
    rounds, processes = 150, 3

    def work() -> None:
        kept = []
        for i in range(rounds):
            with socket.socket() as client:
                client.connect(server.getsockname())
            socket.socket(type=TCP if i % 2 else UDP).close()
            kept.append(socket.socket(type=UDP))

    sums = [0]
    with server, Session(by_port(mechanism)) as session:
        children = [Child(work) for _ in range(processes)]
        for _ in range(20):
            sums.append(sum(new(session.snapshot()).values()))
        assert [child.wait() for child in children] == [0] * processes
        last = session.snapshot()
    assert sums == sorted(sums)
    counts = new(last)
    assert sum(counts.values()) == 3 * rounds * processes
    assert counts[port] == rounds * processes
    assert counts["0"] + counts.get(NO_PORT_YET, 0) == 2 * rounds * processes
    assert not any(last.lost.values())
