# SPDX-License-Identifier: MIT
"""Answer times: their number, and their durations against the program's own clock."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.kernel.bpf.peers import LOOPBACK, bound, durations_agree, listening, peer_of, serving
from tests.kernel.bpf.sockets import N
from tests.kernel.children import TIMEOUT_SECONDS
from tracer.model.config import Config, Filter
from tracer.session import Session

WAITS_MS = (10, 50, 200)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    chosen = Filter(pids=(os.getpid(),), follow_forks=True)
    config = Config(filter=chosen, mechanism="tracepoint", connections=True)
    with Session(config) as running:
        yield running
        assert not any(running.snapshot().lost.values())


class SlowServer:
    """Answers "50" after 50 ms; keeps how long it took by its own clock."""

    def __init__(self) -> None:
        self.own: list[float] = []

    def __call__(self, request: bytes) -> bytes:
        start = time.perf_counter()
        time.sleep(int(request) / 1000)
        self.own.append(time.perf_counter() - start)
        return b"y" * 7


def ask(client: socket.socket, own: list[float]) -> None:
    """One request of each kind on this connection, timed by the client's own clock."""
    for wait in WAITS_MS:
        start = time.perf_counter()
        client.sendall(b"%d" % wait)
        assert client.recv(100) == b"y" * 7
        own.append(time.perf_counter() - start)


def test_both_sides_measure_how_long_the_server_took(session: Session) -> None:
    slow, own = SlowServer(), list[float]()
    with serving(slow) as address, socket.create_connection(address) as client:
        ask(client, own)
    durations_agree(peer_of(session, "client", address[1]).answers, own)
    durations_agree(peer_of(session, "server", address[1]).answers, slow.own)


def test_a_threaded_client_agrees_with_its_own_clock(session: Session) -> None:
    own = list[float]()

    def run() -> None:
        with socket.create_connection(address) as client:
            ask(client, own)

    with serving(SlowServer(), connections=5) as address:
        threads = [threading.Thread(target=run) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_SECONDS)
            assert not thread.is_alive()
    assert len(own) == 5 * len(WAITS_MS)
    durations_agree(peer_of(session, "client", address[1]).answers, own)


def test_an_event_loop_agrees_with_its_own_clock(session: Session) -> None:
    """The calls themselves take microseconds: the time is between them."""
    own = list[float]()

    async def one(address: tuple[str, int]) -> None:
        reader, writer = await asyncio.open_connection(*address)
        for wait in WAITS_MS:
            start = time.perf_counter()
            writer.write(b"%d" % wait)
            assert await reader.read(100) == b"y" * 7
            own.append(time.perf_counter() - start)
        writer.close()
        await writer.wait_closed()

    async def run(address: tuple[str, int]) -> None:
        await asyncio.gather(*(one(address) for _ in range(5)))

    with serving(SlowServer(), connections=5) as address:
        asyncio.run(run(address))
    row = peer_of(session, "client", address[1])
    assert {result: found.count for result, found in row.connects.items()} == {"ok": 5}
    durations_agree(row.answers, own)


def test_several_sends_and_receives_are_one_turn(session: Session) -> None:
    with listening() as (listener, address), socket.create_connection(address) as client:
        server, _ = listener.accept()
        with server:
            for _ in range(N):
                for _ in range(3):
                    client.sendall(b"x" * 5)
                assert len(server.recv(15, socket.MSG_WAITALL)) == 15
                for _ in range(3):
                    server.sendall(b"y" * 5)
                for _ in range(3):
                    assert len(client.recv(5, socket.MSG_WAITALL)) == 5
    for role in ("client", "server"):
        assert peer_of(session, role, address[1]).answers.count == N


def test_the_answer_time_starts_at_the_last_send(session: Session) -> None:
    with listening() as (listener, address), socket.create_connection(address) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"x")
            time.sleep(0.2)
            client.sendall(b"x")
            start = time.perf_counter()
            server.recv(2)
            server.sendall(b"y")
            client.recv(1)
            own = time.perf_counter() - start
    answers = peer_of(session, "client", address[1]).answers
    assert answers.count == 1
    assert answers.sum_ns / 1e9 < own + 0.01 < 0.2


def test_what_a_server_sends_unasked_is_no_answer(session: Session) -> None:
    with listening() as (listener, address), socket.create_connection(address) as client:
        server, _ = listener.accept()
        with server:
            for _ in range(N):
                server.sendall(b"y")
                client.recv(1)
    for role in ("client", "server"):
        assert peer_of(session, role, address[1]).answers.count == 0


def test_the_end_of_the_stream_and_failures_are_no_answers(session: Session) -> None:
    with listening() as (listener, address), socket.create_connection(address) as client:
        server, _ = listener.accept()
        client.sendall(b"x")
        server.recv(1)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        server.close()
        client.settimeout(TIMEOUT_SECONDS)
        assert client.recv(1) == b""
    for role in ("client", "server"):
        assert peer_of(session, role, address[1]).answers.count == 0


def test_an_answer_that_another_thread_receives_is_counted(session: Session) -> None:
    """The thread that receives may return before the one that sends does."""
    with serving(lambda request: request) as address:
        client = socket.create_connection(address)
        received = threading.Semaphore(0)

        def receive() -> None:
            while client.recv(100):
                received.release()

        receiver = threading.Thread(target=receive)
        receiver.start()
        for _ in range(1009):
            client.sendall(b"x")
            assert received.acquire(timeout=TIMEOUT_SECONDS)
        client.shutdown(socket.SHUT_WR)
        receiver.join(TIMEOUT_SECONDS)
        client.close()
    assert peer_of(session, "client", address[1]).answers.count == 1009
    assert peer_of(session, "server", address[1]).answers.count == 1009


def test_messages_with_an_address_are_turns_of_its_peer(session: Session) -> None:
    with (
        bound(socket.SOCK_DGRAM) as server,
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        address = server.getsockname()
        client.connect(address)
        for _ in range(N):
            client.sendmsg([b"x" * 5])
            _, _, _, sender = server.recvmsg(100)
            server.sendmsg([b"y" * 3], [], 0, sender)
            client.recvmsg(100)
        row = peer_of(session, "client", address[1], transport="udp")
        theirs = peer_of(session, "server", address[1], transport="udp")
    assert (row.answers.count, row.sent_bytes, row.received_bytes) == (N, 5 * N, 3 * N)
    assert (theirs.answers.count, theirs.peer) == (N, LOOPBACK)
