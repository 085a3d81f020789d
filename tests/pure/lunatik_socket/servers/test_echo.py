# SPDX-License-Identifier: MIT
"""The echo server on loopback, TCP and UDP."""

import logging
import socket
import struct
from contextlib import ExitStack, suppress

import pytest

from lunatik_socket.servers.echo import EchoConfig, EchoServer
from lunatik_socket.servers.echo_datagrams import RateLimit
from tests.load import echo_clients
from tests.pure.lunatik_socket.servers.serving import (
    WAIT_SECONDS,
    connected,
    listening,
    read_all,
    read_exactly,
    serving,
)


def _echo(**options: object) -> EchoServer:
    settings = {"listen": ("127.0.0.1", 0), "max_clients": 100, "grace_seconds": 0.1, **options}
    return EchoServer(EchoConfig(**settings))  # type: ignore[arg-type]


def _datagram_socket(address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(WAIT_SECONDS)
    sock.connect(address)
    return sock


def test_a_stream_comes_back_and_ends() -> None:
    with serving(_echo()) as server, connected(server.address) as client:
        client.sendall(b"once")
        assert read_exactly(client, 4) == b"once"
        client.sendall(b"and again")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"and again"
    stats = server.stats()
    assert (stats.accepted, stats.active, stats.stream_bytes) == (1, 0, 13)
    assert (stats.timed_out, stats.broken) == (0, 0)


def test_many_clients_at_once() -> None:
    with serving(_echo(max_clients=500)) as server:
        done = echo_clients(server.address[1], clients=500, requests=20_011, together=1, bytes=1000)
        assert (done.requests, done.failed, done.most_at_once) == (20_011, 0, 500)
    assert server.stats().stream_bytes == 20_011_000


def test_a_client_that_sends_and_does_not_read_is_not_read_from() -> None:
    chunk = b"x" * 65536
    with serving(_echo()) as server, connected(server.address) as greedy:
        greedy.settimeout(0.3)
        sent = 0
        with suppress(TimeoutError):
            while sent < 200_000_000:
                sent += greedy.send(chunk)
        assert sent < 200_000_000
        assert 0 < server._buffers.held_bytes <= 256 * 1024
        done = echo_clients(server.address[1], clients=3, requests=100)
        assert (done.requests, done.failed) == (100, 0)
        greedy.settimeout(WAIT_SECONDS)
        greedy.shutdown(socket.SHUT_WR)
        assert len(read_all(greedy)) == sent
    assert server.stats().stream_bytes == sent + 100 * 64


@pytest.mark.parametrize("size", [0, 1, 1472, 65507])
def test_a_datagram_comes_back(size: int) -> None:
    datagram = bytes(i % 251 for i in range(size))
    with serving(_echo()) as server, _datagram_socket(server.address) as client:
        client.send(datagram)
        assert client.recv(70000) == datagram
    stats = server.stats()
    assert (stats.datagrams, stats.datagram_bytes, stats.datagrams_dropped) == (1, size, 0)


def test_datagrams_of_many_clients_go_back_to_their_senders() -> None:
    with serving(_echo()) as server:
        clients = [_datagram_socket(server.address) for _ in range(23)]
        for number, client in enumerate(clients):
            client.send(f"of {number}".encode())
        for number, client in enumerate(clients):
            with client:
                assert client.recv(100) == f"of {number}".encode()
    assert server.stats().datagrams == 23


def test_two_echo_servers_do_not_answer_each_other() -> None:
    with serving(_echo()) as server:
        port = server.address[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other_echo:
            other_echo.bind(("127.0.0.9", port))
            other_echo.sendto(b"hello, echo", server.address)
            other_echo.settimeout(0.2)
            with _datagram_socket(server.address) as client:
                client.send(b"x")
                assert client.recv(1) == b"x"
            with pytest.raises(TimeoutError):
                other_echo.recv(100)
    assert (server.stats().datagrams, server.stats().datagrams_dropped) == (1, 1)


@pytest.mark.parametrize("port", [1, 7, 53, 1023])
def test_a_datagram_from_a_well_known_port_is_not_answered(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(_echo()) as server:
        datagrams = server._datagrams
        name = {"family": "inet", "addr": "127.0.0.1", "port": port}
        for _ in range(3):
            server._loop.post(lambda: datagrams._answer(name, 1))
        with _datagram_socket(server.address) as client:
            client.send(b"x")
            assert client.recv(1) == b"x"
    assert (server.stats().datagrams, server.stats().datagrams_dropped) == (1, 3)
    assert len([line for line in caplog.messages if "well-known service" in line]) == 1


def test_two_echo_servers_on_different_ports_stop_answering_each_other() -> None:
    with (
        serving(_echo(max_datagrams_per_second=1)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other_echo,
    ):
        other_echo.bind(("127.0.0.1", 0))
        other_echo.settimeout(0.5)
        other_echo.sendto(b"hello, echo", server.address)
        answers = 0
        with suppress(TimeoutError):
            while answers < 1000:
                other_echo.sendto(other_echo.recv(100), server.address)
                answers += 1
        assert 10 <= answers < 1000  # ten at once, and one for each second
    assert server.stats().datagrams_dropped == 1


def test_the_rate_of_an_address_does_not_limit_another() -> None:
    now = [0.0]
    rate = RateLimit(2, lambda: now[0])
    assert [rate.allows("192.0.2.1") for _ in range(21)] == [True] * 20 + [False]
    assert rate.allows("192.0.2.2")
    now[0] = 1.0
    assert [rate.allows("192.0.2.1") for _ in range(3)] == [True, True, False]


def test_the_rates_of_many_forged_addresses_cost_little_memory() -> None:
    rate = RateLimit(1, lambda: 0.0)
    for number in range(10_000):
        rate.allows(f"address {number}")
    assert len(rate._buckets) == 4096


def test_silent_clients_make_way() -> None:
    with (
        serving(_echo(max_clients=3)) as server,
        connected(server.address) as talking,
        ExitStack() as silent,
    ):
        talking.sendall(b"x")
        assert talking.recv(1) == b"x"
        quiet = [silent.enter_context(connected(server.address)) for _ in range(4)]
        with connected(server.address) as client:
            client.sendall(b"y")
            assert client.recv(1) == b"y"
        with pytest.raises(ConnectionResetError):
            quiet[0].recv(1)
        talking.sendall(b"z")
        assert talking.recv(1) == b"z"
    assert server.stats().turned_away >= 1


def test_a_silent_client_is_cut() -> None:
    with serving(_echo(idle_timeout_seconds=0.2)) as server, connected(server.address) as client:
        assert client.recv(1) == b""
    assert server.stats().timed_out == 1


def test_a_client_that_resets_is_gone() -> None:
    with serving(_echo()) as server:
        with connected(server.address) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with connected(server.address) as client:
            client.sendall(b"y")
            assert client.recv(1) == b"y"
            assert server.stats().broken == 1


def test_stop_cuts_the_remaining_clients(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lunatik_socket.servers.echo")
    with serving(_echo()) as server, connected(server.address) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        server.stop()
        assert client.recv(1) == b""
    assert any(line.endswith(": cut: the server stops") for line in caplog.messages)


def test_a_udp_port_in_use_leaves_no_listener() -> None:
    with listening() as finder:
        address = finder.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(address)
        with pytest.raises(OSError, match=r'^\[Errno 98\] cannot bind to "127.0.0.1:'):
            _echo(listen=address).open()
    with serving(_echo(listen=address)) as server:
        assert server.address == address


def test_the_tally_counts_both_kinds() -> None:
    with serving(_echo(tally=True)) as server:
        with connected(server.address) as client:
            client.sendall(b"12345")
            assert read_exactly(client, 5) == b"12345"
        with _datagram_socket(server.address) as client:
            client.send(b"123")
            assert client.recv(3) == b"123"
    stats = server.stats()
    assert (stats.calls["recvmsg"], stats.errors["recvmsg", "EAGAIN"]) == (2, 1)
    assert (stats.calls["sendmsg"], stats.call_bytes["sendmsg"]) == (1, 3)
    # One more byte wakes the loop at the end. It is not received if the loop was awake already.
    assert stats.call_bytes["send"] == 6
    assert stats.call_bytes["recv"] in {5, 6}


def test_loopback_is_the_default() -> None:
    assert EchoConfig().listen == ("127.0.0.1", 10007)
