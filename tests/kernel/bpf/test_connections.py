# SPDX-License-Identifier: MIT
"""The connection layer: connects by result, accept waits, lives, bytes, resets; each exact."""

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

import pytest

from tests.kernel.bpf.peers import (
    LOOPBACK,
    bound,
    connections_of,
    durations_agree,
    listening,
    peer_of,
    serving,
    timed,
)
from tests.kernel.bpf.sockets import N
from tests.kernel.children import TIMEOUT_SECONDS, Child, wait_until
from tracer.loading.attachments import COPY
from tracer.model.config import Config, Filter
from tracer.model.connections import OTHER, Listener
from tracer.session import Session

CLONE_NEWNET = 0x40000000
MINE = Filter(pids=(os.getpid(),), follow_forks=True)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(Config(filter=MINE, mechanism="tracepoint", connections=True)) as running:
        yield running
        assert not any(running.snapshot().lost.values())


def connects(session: Session, port: int) -> dict[str, int]:
    """The number of connects to this port by result."""
    row = peer_of(session, "client", port)
    return {result: one.count for result, one in row.connects.items()}


@contextlib.contextmanager
def full_listener() -> Iterator[tuple[str, int]]:
    """A listener that drops every further SYN, because its accept queue is full."""
    with listening(backlog=0) as (_, address), socket.socket() as only:
        only.connect(address)
        yield address


def reset(connection: socket.socket) -> None:
    """Close it with a reset instead of a FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_connects_that_succeed_are_counted_with_their_durations(session: Session) -> None:
    own = []
    with listening() as (_, address):
        for _ in range(N):
            with socket.socket() as client:
                own.append(timed(lambda: client.connect(address)))
    row = peer_of(session, "client", address[1])
    assert (row.peer, row.comm, row.pid, row.connections) == (LOOPBACK, own_comm(), None, N)
    assert connects(session, address[1]) == {"ok": N}
    assert 0 < row.connects["ok"].sum_ns / 1e9 < sum(own)


def own_comm() -> str:
    with open("/proc/self/comm") as file:
        return file.read().rstrip("\n")


@pytest.mark.parametrize("blocking", [True, False])
def test_a_refused_connect_has_its_errno(session: Session, blocking: bool) -> None:
    with bound() as closed:
        port = closed.getsockname()[1]
        for _ in range(N):
            with socket.socket() as client:
                client.setblocking(blocking)
                result = client.connect_ex((LOOPBACK, port))
                assert result in (errno.ECONNREFUSED, errno.EINPROGRESS)
                select.select([], [client], [], TIMEOUT_SECONDS)
    assert connects(session, port) == {"ECONNREFUSED": N}
    row = peer_of(session, "client", port)
    assert (row.connections, row.resets_received, row.open) == (0, N, 0)
    assert row.lives.count == 0


def test_a_non_blocking_connect_ends_when_it_is_established(session: Session) -> None:
    with listening() as (_, address):
        for _ in range(N):
            with socket.socket() as client:
                client.setblocking(False)
                assert client.connect_ex(address) == errno.EINPROGRESS
                select.select([], [client], [], TIMEOUT_SECONDS)
    assert connects(session, address[1]) == {"ok": N}


def total_retransmits(sock: socket.socket) -> int:
    """tcpi_total_retrans of the kernel's struct tcp_info: what `ss -i` shows."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[100:104], sys.byteorder)


def test_a_connect_whose_syns_are_dropped_times_out(session: Session) -> None:
    with full_listener() as address, socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
        client.setblocking(False)
        start = time.perf_counter()
        assert client.connect_ex(address) == errno.EINPROGRESS
        assert select.select([], [client], [], TIMEOUT_SECONDS)[1]
        own = time.perf_counter() - start
        retransmits = total_retransmits(client)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ETIMEDOUT
    row = peer_of(session, "client", address[1])
    assert connects(session, address[1]) == {"ok": 1, "ETIMEDOUT": 1}
    durations_agree(row.connects["ETIMEDOUT"], [own])
    assert row.retransmits == retransmits > 0


def test_a_connect_that_the_program_gives_up_is_aborted(session: Session) -> None:
    with full_listener() as address:
        client = socket.socket()
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.connect(address)
        client.close()
    assert connects(session, address[1]) == {"ok": 1, "aborted": 1}


def test_a_connect_without_a_route_is_unreachable(session: Session) -> None:
    def connect() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
        for _ in range(N):
            with socket.socket() as client:
                assert client.connect_ex(("192.0.2.1", 9)) == errno.ENETUNREACH

    assert Child(connect).wait() == 0
    row = peer_of(session, "client", 9)
    assert (row.peer, row.connections) == ("192.0.2.1", 0)
    assert connects(session, 9) == {"ENETUNREACH": N}


def test_a_socket_may_try_again_after_a_refused_connect(session: Session) -> None:
    with bound() as closed, listening() as (_, address), socket.socket() as client:
        refused = closed.getsockname()
        assert client.connect_ex(refused) == errno.ECONNREFUSED
        client.connect(address)
        [one] = connections_of(session, "client", address[1])
        assert (one.state, one.peer_port) == ("ESTABLISHED", address[1])
    assert connects(session, refused[1]) == {"ECONNREFUSED": 1}
    assert connects(session, address[1]) == {"ok": 1}


def test_an_accept_wait_is_the_time_in_the_accept_queue(session: Session) -> None:
    with listening() as (listener, address), socket.socket() as client:
        client.connect(address)
        start = time.perf_counter()
        time.sleep(0.1)
        server, _ = listener.accept()
        own = time.perf_counter() - start
        server.close()
    row = peer_of(session, "server", address[1])
    durations_agree(row.accept_waits, [own])
    assert row.connections == 1


def test_a_life_lasts_from_established_to_closed(session: Session) -> None:
    with listening() as (listener, address):
        client = socket.create_connection(address)
        start = time.perf_counter()
        server, _ = listener.accept()
        time.sleep(0.1)
        client.close()
        assert server.recv(1) == b""
        server.close()
        own = time.perf_counter() - start
    for role in ("client", "server"):
        row = peer_of(session, role, address[1])
        durations_agree(row.lives, [own])
        assert (row.connections, row.open) == (1, 0)
        assert connections_of(session, role, address[1]) == []


def test_bytes_of_a_connection_agree_with_both_ends(session: Session) -> None:
    with listening() as (listener, address):
        client = socket.create_connection(address)
        server, _ = listener.accept()
        for _ in range(N):
            client.sendall(b"x" * 5)
        assert len(server.recv(5 * N, socket.MSG_WAITALL)) == 5 * N
        server.sendall(b"y" * 7)
        client.recv(7)
        [ours], [theirs] = (
            connections_of(session, role, address[1]) for role in ("client", "server")
        )
        assert (ours.sent_bytes, ours.sends, ours.received_bytes, ours.receives) == (5 * N, N, 7, 1)
        assert (theirs.sent_bytes, theirs.sends, theirs.received_bytes) == (7, 1, 5 * N)
        assert ours.inode == os.fstat(client.fileno()).st_ino
        assert theirs.inode == os.fstat(server.fileno()).st_ino
        assert (ours.pid, ours.comm) == (os.getpid(), own_comm())
        assert (ours.local, ours.local_port) == client.getsockname()
        assert (theirs.peer, theirs.peer_port) == client.getsockname()
        assert 0 < ours.born_ns < ours.last_send_ns < ours.last_receive_ns < time.monotonic_ns()
        assert peer_of(session, "client", address[1]).open == 1
        client.close()
        server.close()
    for role, numbers in (("client", (5 * N, 7)), ("server", (7, 5 * N))):
        row = peer_of(session, role, address[1])
        assert (row.sent_bytes, row.received_bytes) == numbers


def test_resets_are_counted_on_both_sides(session: Session) -> None:
    with listening() as (listener, address):
        for _ in range(N):
            client = socket.create_connection(address)
            server, _ = listener.accept()
            reset(server)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            client.close()
    client_row = peer_of(session, "client", address[1])
    server_row = peer_of(session, "server", address[1])
    assert (client_row.resets_received, client_row.resets_sent) == (N, 0)
    assert (server_row.resets_received, server_row.resets_sent) == (0, N)


@pytest.mark.parametrize(
    ("family", "host", "shown"),
    [
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::ffff:127.0.0.1", LOOPBACK),
        (socket.AF_INET, LOOPBACK, LOOPBACK),
    ],
)
def test_addresses_of_each_kind(
    session: Session, family: socket.AddressFamily, host: str, shown: str
) -> None:
    with socket.socket(family) as listener, socket.socket(family) as client:
        listener.bind((host, 0))
        listener.listen()
        address = listener.getsockname()
        client.connect(address)
        server, _ = listener.accept()
        with server:
            for role in ("client", "server"):
                [one] = connections_of(session, role, address[1])
                assert (one.local, one.peer) == (shown, shown)
                assert peer_of(session, role, address[1]).peer == shown


def test_a_listener_is_listed_with_its_owner(session: Session) -> None:
    with listening() as (listener, address):
        [one] = connections_of(session, "listener", address[1])
        assert (one.state, one.pid) == ("LISTEN", os.getpid())
        assert one.inode == os.fstat(listener.fileno()).st_ino
    assert connections_of(session, "listener", address[1]) == []


def test_the_accept_queue_of_a_listener_is_as_full_as_it_is(session: Session) -> None:
    def listener_at(port: int) -> Listener:
        found = session.snapshot().connections
        assert found is not None
        [one] = [one for one in found.listeners if one.port == port]
        return one

    with listening(backlog=7) as (listener, address), contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(socket.create_connection(address))
        wait_until(lambda: listener_at(address[1]).queue == 3, "the connections to be queued")
        one = listener_at(address[1])
        assert (one.limit, one.drops, one.address) == (7, 0, LOOPBACK)
        assert (one.pid, one.inode) == (os.getpid(), os.fstat(listener.fileno()).st_ino)
        listener.accept()[0].close()
        assert listener_at(address[1]).queue == 2


def test_connections_that_a_full_listener_drops_are_counted(session: Session) -> None:
    with full_listener() as address, socket.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(address) == errno.EINPROGRESS

        def drops() -> int:
            found = session.snapshot().connections
            assert found is not None
            return sum(one.drops for one in found.listeners if one.port == address[1])

        wait_until(lambda: drops() > 0, "the SYN to be dropped")


def test_a_socket_belongs_to_the_process_that_used_it_last(session: Session) -> None:
    with listening() as (_, address), socket.create_connection(address) as client:
        client.send(b"x")
        child = Child(lambda: client.send(b"y"))
        assert child.wait() == 0
        [one] = connections_of(session, "client", address[1])
        assert (one.pid, one.tid, one.sent_bytes) == (child.pid, child.pid, 2)


def test_connections_in_the_accept_queue_are_nobodys(session: Session) -> None:
    with listening() as (_, address), socket.create_connection(address):
        assert connections_of(session, "server", address[1]) == []


def test_an_answer_over_udp_has_the_address_that_was_sent_to(session: Session) -> None:
    with (
        bound(socket.SOCK_DGRAM) as server,
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        address = server.getsockname()
        for _ in range(N):
            client.sendto(b"x" * 5, address)
            _, sender = server.recvfrom(100)
            server.sendto(b"y" * 3, sender)
            client.recvfrom(100)
        ours = peer_of(session, "client", address[1], transport="udp")
        theirs = peer_of(session, "server", address[1], transport="udp")
    assert (ours.answers.count, ours.connections, ours.peer) == (N, 1, LOOPBACK)
    assert (theirs.answers.count, theirs.connections, theirs.peer) == (N, 1, LOOPBACK)
    assert (ours.sent_bytes, ours.received_bytes) == (5 * N, 3 * N)
    assert connections_of(session, "client", address[1]) == []


def test_a_connection_older_than_the_trace_is_known_from_its_first_use() -> None:
    with listening() as (listener, address), socket.create_connection(address) as client:
        server, _ = listener.accept()
        config = Config(filter=MINE, mechanism="tracepoint", connections=True)
        with server, Session(config) as session:
            for _ in range(N):
                client.send(b"x")
                server.recv(1)
                server.send(b"y")
                client.recv(1)
            for role in ("client", "server"):
                row = peer_of(session, role, address[1])
                assert (row.answers.count, row.connections, row.open) == (N, 0, 1)
                [one] = connections_of(session, role, address[1])
                assert (one.born_ns, one.sends, one.receives) == (0, N, N)


def test_sockets_and_peers_without_room_are_counted() -> None:
    config = Config(filter=MINE, mechanism="tracepoint", connections=True, sockets=2, peers=2)
    with Session(config) as session, contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(listening())[1] for _ in range(N)]
        clients = [stack.enter_context(socket.socket()) for _ in range(N)]
        for client, address in zip(clients, addresses, strict=True):
            client.connect(address)
            assert client.send(b"x") == 1
        snapshot = session.snapshot()
        assert snapshot.connections is not None
        known = len(snapshot.connections.connections)
        # The 23 listeners come first; then 23 connects, and 23 sends of sockets without room.
        assert 1 <= known <= 3
        without_room = 3 * N - known
        # Where the programs of tracepoints have copies, a socket without room is counted twice.
        copies = any(one.name == f"connection_destroyed{COPY}" for one in snapshot.programs)
        at_most = without_room + (2 * N if copies else 0)
        assert without_room <= snapshot.lost["socket_map_full"] <= at_most
        assert not snapshot.lost["peer_map_full"]


def test_peers_without_room_are_counted_together() -> None:
    config = Config(filter=MINE, mechanism="tracepoint", connections=True, peers=2)
    with Session(config) as session:
        for _ in range(N):
            with bound() as closed, socket.socket() as client:
                assert client.connect_ex(closed.getsockname()) == errno.ECONNREFUSED
        found = session.snapshot().connections
        assert found is not None
        assert sorted(row.comm for row in found.peers) == sorted([own_comm(), own_comm(), OTHER])
        [other] = [row for row in found.peers if row.comm == OTHER]
        assert (other.peer, other.role, other.resets_received) == (OTHER, "client", N - 2)
        assert other.failed_connects == {"ECONNREFUSED": N - 2}
        assert found.other_peer == N - 2


def test_peers_may_be_split_by_process() -> None:
    config = Config(filter=MINE, mechanism="tracepoint", connections=True, label="pid")
    with Session(config) as session, listening() as (_, address):
        children = [Child(lambda: socket.create_connection(address)) for _ in range(3)]
        assert [child.wait() for child in children] == [0, 0, 0]
        found = session.snapshot().connections
        assert found is not None
        rows = {row.pid: row.connections for row in found.peers if row.port == address[1]}
        assert rows == {child.pid: 1 for child in children}


def test_processes_that_are_not_traced_are_in_no_number() -> None:
    with serving(lambda request: request) as address:
        nobody = Config(
            filter=Filter(comms=("no-such-name",)), mechanism="tracepoint", connections=True
        )
        with Session(nobody) as session, socket.create_connection(address) as client:
            client.send(b"x")
            client.recv(1)
            found = session.snapshot().connections
            assert found is not None
            assert (found.peers, found.connections) == ((), ())


def test_without_the_layer_nothing_of_it_is_loaded() -> None:
    with Session(Config(filter=MINE, mechanism="tracepoint")) as session:
        snapshot = session.snapshot()
        assert snapshot.connections is None
        assert {program.name.removesuffix(COPY) for program in snapshot.programs} == {
            "on_fork",
            "on_exec",
            "on_thread_end",
            "enter_system_call",
            "exit_system_call",
        }


def test_the_programs_forget_a_connection_when_it_is_destroyed(session: Session) -> None:
    def known() -> int:
        found = session.snapshot().connections
        assert found is not None
        return len(found.connections)

    before = known()
    with listening() as (listener, address):
        for _ in range(N):
            client = socket.create_connection(address)
            server, _ = listener.accept()
            reset(client)
            server.close()
    wait_until(lambda: known() == before, "the connections to be forgotten")
