# SPDX-License-Identifier: MIT
"""Invariant 1: N calls of an operation move its count by N, and its bytes by the bytes."""

from collections.abc import Callable, Iterable
from functools import partial

import pytest

import lunatik_socket
from lunatik_socket import Socket
from tests.kernel.bpf.sockets import LOOPBACK, PAIRS, N, listener, tcp_pair, transports, udp_pair
from tests.kernel.counting import Counts, counted
from tracer.model.operations import OPERATIONS
from tracer.session import Session


def assert_exactly(counts: Counts, operation: str, transport: str, moved: int = 0) -> None:
    assert counts.calls(operation, transport) == N
    assert counts.calls(operation) == N  # and none under another transport
    assert counts.bytes(operation, transport) == moved
    assert counts.errors(operation) == {}
    assert sum(counts.slots[operation, transport].values()) == N
    assert not counts.lost
    assert not counts.in_progress


@transports
def test_new(session: Session, transport: str) -> None:
    with counted(session) as counts:
        for _ in range(N):
            lunatik_socket.new("inet", transport)
    assert_exactly(counts, "new", transport)


@transports
def test_bind(session: Session, transport: str) -> None:
    socks = [lunatik_socket.new("inet", transport) for _ in range(N)]
    with counted(session) as counts:
        for sock in socks:
            sock.bind(LOOPBACK, 0)
    assert_exactly(counts, "bind", transport)
    assert counts.all_calls() == {"bind": N}


def test_listen(session: Session) -> None:
    socks = [lunatik_socket.new() for _ in range(N)]
    with counted(session) as counts:
        for sock in socks:
            sock.listen(5)
    assert_exactly(counts, "listen", "tcp")
    assert counts.all_calls() == {"listen": N}


def test_accept_and_connect(session: Session) -> None:
    server = listener()
    address = server.getsockname()
    clients = [lunatik_socket.new() for _ in range(N)]
    with counted(session) as counts:
        for client in clients:
            client.connect(*address)
    assert_exactly(counts, "connect", "tcp")
    assert counts.all_calls() == {"connect": N}

    accepted = []
    with counted(session) as counts:
        for _ in range(N):
            accepted.append(server.accept())
    assert_exactly(counts, "accept", "tcp")
    assert counts.all_calls() == {"accept": N} | dict.fromkeys(
        lunatik_socket.EXTRA_SYSTEM_CALLS.get("accept", ()), N
    )


def test_connect_of_udp(session: Session) -> None:
    one, two = udp_pair()
    address = two.getsockname()
    with counted(session) as counts:
        for _ in range(N):
            one.connect(*address)
    assert_exactly(counts, "connect", "udp")


@transports
@pytest.mark.parametrize("size", [1, 1009])
def test_send_and_recv(session: Session, transport: str, size: int) -> None:
    one, two = PAIRS[transport]()
    with counted(session) as counts:
        for _ in range(N):
            assert one.send(bytes(size)) == size
            assert two.recv(size) == (bytes(size), size)
    assert_exactly(counts, "send", transport, N * size)
    assert_exactly(counts, "recv", transport, N * size)
    assert counts.all_calls() == {"send": N, "recv": N}


@transports
def test_sendmsg_and_recvmsg(session: Session, transport: str) -> None:
    one, two = PAIRS[transport]()
    with counted(session) as counts:
        for _ in range(N):
            assert one.sendmsg({}, b"seven..") == 7
            data, size, _ = two.recvmsg({"iov_len": 7})
            assert (data, size) == (b"seven..", 7)
    assert_exactly(counts, "sendmsg", transport, N * 7)
    assert_exactly(counts, "recvmsg", transport, N * 7)
    assert counts.all_calls() == {"sendmsg": N, "recvmsg": N}


@transports
def test_close(session: Session, transport: str) -> None:
    socks = [lunatik_socket.new("inet", transport) for _ in range(N)]
    with counted(session) as counts:
        for sock in socks:
            sock.close()
        for sock in socks:
            sock.close()  # the second close makes no system call
    assert_exactly(counts, "close", transport)
    assert counts.all_calls() == {"close": N}


@transports
@pytest.mark.parametrize("operation", ["getsockname", "getpeername"])
def test_names(session: Session, transport: str, operation: str) -> None:
    one, _two = PAIRS[transport]()
    name: Callable[[], object] = getattr(one, operation)
    with counted(session) as counts:
        for _ in range(N):
            name()
    assert_exactly(counts, operation, transport)
    assert counts.all_calls() == {operation: N}


@transports
def test_options(session: Session, transport: str) -> None:
    sock = lunatik_socket.new("inet", transport)
    with counted(session) as counts:
        for _ in range(N):
            sock.setsockopt("s", "r", 8192)
            assert sock.getsockopt("s", "r") == 16384
    assert_exactly(counts, "getsockopt", transport)
    assert_exactly(counts, "setsockopt", transport)
    assert counts.all_calls() == {"getsockopt": N, "setsockopt": N}


def test_poll(session: Session) -> None:
    one, _two = tcp_pair()
    with counted(session) as counts:
        polls = [lunatik_socket.poll([one]) for _ in range(N)]
    assert_exactly(counts, "poll", "other")
    assert counts.all_calls() == {"poll": N}
    assert len(polls) == N


def test_select(session: Session) -> None:
    one, two = tcp_pair()
    poll = lunatik_socket.poll([two])
    one.send(b"x")
    with counted(session) as counts:
        for _ in range(N):
            assert poll.select() == (0, two)
    assert_exactly(counts, "select", "other")
    assert counts.all_calls() == {"select": N}


Calls = Callable[[], Iterable[Callable[[], object]]]


def _fresh() -> list[Socket]:
    return [lunatik_socket.new("inet", "udp") for _ in range(N)]


def _accepts() -> list[Callable[[], object]]:
    server = listener()
    address = server.getsockname()
    for _ in range(N):
        lunatik_socket.new().connect(*address)  # stays in the queue, though it is closed at once
    return [server.accept] * N


def _many(of: Callable[[Socket, Socket], object]) -> Calls:
    """N times the same call on a pair of sockets; the first one has sent N messages."""

    def prepare() -> list[Callable[[], object]]:
        one, two = udp_pair()
        for _ in range(N):
            one.send(b"x")
        return [lambda: of(one, two)] * N

    return prepare


def _pollers() -> list[Callable[[], object]]:
    one, _ = udp_pair()
    return [partial(lunatik_socket.poll([one]).select, 0) for _ in range(N)]


# What makes one call of each operation. The sockets are made before the count.
CALLS: dict[str, Calls] = {
    "new": lambda: [lunatik_socket.new] * N,
    "bind": lambda: [partial(sock.bind, LOOPBACK, 0) for sock in _fresh()],
    "listen": lambda: [partial(lunatik_socket.new().listen, 5) for _ in range(N)],
    "accept": _accepts,
    "connect": lambda: [partial(sock.connect, LOOPBACK, 9) for sock in _fresh()],
    "sendmsg": _many(lambda one, _: one.sendmsg({}, b"x")),
    "recvmsg": _many(lambda _, two: two.recvmsg({"iov_len": 1})),
    "send": _many(lambda one, _: one.send(b"x")),
    "recv": _many(lambda _, two: two.recv(1)),
    "close": lambda: [sock.close for sock in _fresh()],
    "getsockname": _many(lambda one, _: one.getsockname()),
    "getpeername": _many(lambda one, _: one.getpeername()),
    "getsockopt": _many(lambda one, _: one.getsockopt("s", "r")),
    "setsockopt": _many(lambda one, _: one.setsockopt("s", "r", 8192)),
    "poll": _many(lambda one, _: lunatik_socket.poll([one])),
    "select": _pollers,
}


@pytest.mark.parametrize("operation", [operation.name for operation in OPERATIONS])
def test_every_operation_of_the_table_moves_its_count(session: Session, operation: str) -> None:
    """Fails when an operation is added and nothing here calls it and so moves its count."""
    assert operation in CALLS, f'no call of "{operation}" is counted here'
    calls = CALLS[operation]()
    with counted(session) as counts:
        results = [call() for call in calls]
    assert counts.calls(operation) == len(results) == N
