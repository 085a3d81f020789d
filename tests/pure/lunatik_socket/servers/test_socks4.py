# SPDX-License-Identifier: MIT
"""The SOCKSv4 proxy on loopback: requests, refusals, relaying."""

import logging
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lunatik_socket.servers import socks4
from lunatik_socket.servers.resolver import Resolver
from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server
from tests.pure.lunatik_socket.servers.name_server import NO_SUCH_NAME, NameServer, name_server
from tests.pure.lunatik_socket.servers.serving import (
    GRANTED,
    REFUSED,
    WAIT_SECONDS,
    accepted,
    asking,
    connected,
    listening,
    logged,
    own_address,
    proxy,
    read_all,
    read_exactly,
    tunnel,
)

LOGGER = "lunatik_socket.servers.socks4"


# ---------------------------------------------------------------------- what is granted


def test_bytes_pass_both_ways_and_are_counted() -> None:
    with proxy() as server, listening() as listener, tunnel(server, listener) as (client, target):
        client.sendall(b"question")
        assert read_exactly(target, 8) == b"question"
        target.sendall(b"the answer")
        assert read_exactly(client, 10) == b"the answer"
        stats = server.stats()
        assert (stats.bytes_to_target, stats.bytes_to_client) == (8, 10)
        assert (stats.accepted, stats.connected, stats.active) == (1, 1, 1)
        client.shutdown(socket.SHUT_WR)
        assert target.recv(1) == b""
        target.close()
        assert client.recv(1) == b""
    stats = server.stats()
    assert (stats.bytes_to_target, stats.bytes_to_client) == (8, 10)
    assert (stats.active, stats.refused, stats.timed_out, stats.broken) == (0, 0, 0, 0)


@pytest.mark.parametrize("name", [None, b"127.0.0.1", b"localhost"])
def test_a_request_that_arrives_byte_by_byte(name: bytes | None) -> None:
    with proxy() as server, listening() as listener, connected(server.address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = "127.0.0.1" if name is None else "0.0.0.7"
        for byte in asking(listener.getsockname()[1], address, b"somebody", name):
            client.sendall(bytes([byte]))
        assert read_exactly(client, 8) == GRANTED
        with accepted(listener) as target:
            client.sendall(b"x")
            assert target.recv(1) == b"x"


@pytest.mark.parametrize("size", [1, 200, 100_000])
def test_data_that_is_sent_with_the_request_is_forwarded(size: int) -> None:
    early = bytes(i % 251 for i in range(size))
    with proxy() as server, listening() as listener, connected(server.address) as client:
        client.sendall(asking(listener.getsockname()[1]) + early)
        client.shutdown(socket.SHUT_WR)
        with accepted(listener) as target:
            assert read_all(target) == early
        assert read_all(client) == GRANTED
    assert server.stats().bytes_to_target == size


def test_a_client_ends_its_side_first() -> None:
    with proxy() as server, listening() as listener, tunnel(server, listener) as (client, target):
        client.sendall(b"all I have")
        client.shutdown(socket.SHUT_WR)
        assert read_all(target) == b"all I have"
        target.sendall(b"thanks")
        target.close()
        assert read_all(client) == b"thanks"


def test_a_target_ends_its_side_first() -> None:
    with proxy() as server, listening() as listener, tunnel(server, listener) as (client, target):
        target.sendall(b"hello and goodbye")
        target.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"hello and goodbye"
        client.sendall(b"still here")
        client.shutdown(socket.SHUT_WR)
        assert read_all(target) == b"still here"


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_a_reset_is_forwarded_as_a_reset() -> None:
    with proxy() as server, listening() as listener:
        with tunnel(server, listener) as (client, target):
            _reset(target)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        with tunnel(server, listener) as (client, target):
            _reset(client)
            with pytest.raises(ConnectionResetError):
                target.recv(1)
    assert server.stats().broken == 2


def test_the_log_names_client_user_and_destination(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    with proxy() as server, listening() as listener, connected(server.address) as client:
        port = listener.getsockname()[1]
        client.sendall(asking(port, "0.0.0.1", b"ann\n", b"127.0.0.1"))
        assert read_exactly(client, 8) == GRANTED
        name = client.getsockname()
        expected = f'{name[0]}:{name[1]} user "ann\\x0a" to 127.0.0.1:{port}: connected'
        assert expected in caplog.messages


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("request_bytes", "cause"),
    [
        (asking(80, command=2), "BIND is not supported"),
        (asking(0), "port 0 is not a destination"),
        (asking(80, "0.0.0.0"), "0.0.0.0 is not a destination"),
        (asking(80, "0.0.0.1", name=b"0.0.0.0"), "0.0.0.0 is not a destination"),
        (b"\x05\x01\x00", "malformed request: protocol version 5, expected 4"),
        (b"GET / HTTP/1.1\r\n\r\n", "malformed request: protocol version 71, expected 4"),
        (b"\x04\x07", "malformed request: command 7, expected 1 (CONNECT) or 2 (BIND)"),
        (asking(80, user=b"u" * 256), "malformed request: user id longer than 255 bytes"),
        (b"\x04\x01\0P\x7f\0\0\x01" + b"u" * 9000, "user id longer than 255 bytes"),
        (
            asking(80, "0.0.0.1", name=b"a b"),
            'malformed request: host name "a b" is empty or not printable ASCII',
        ),
        (asking(80, "0.0.0.1", name=b"nosuch.invalid"), "cannot resolve: "),
        (asking(80, "0.0.0.1", name=b"a." * 127), "cannot resolve: "),
        (asking(80, "0.0.0.1", name=b"x" * 255), "cannot resolve: "),
        (
            asking(80, "255.255.255.255"),
            'cannot connect to "255.255.255.255:80": ',
        ),
    ],
)
def test_refusals(request_bytes: bytes, cause: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    with proxy() as server, connected(server.address) as client:
        client.sendall(request_bytes)
        assert read_all(client) == REFUSED
    assert len(caplog.messages) == 1
    assert ": refused: " in caplog.messages[0]
    assert cause in caplog.messages[0]
    stats = server.stats()
    assert (stats.refused, stats.connected, stats.active) == (1, 0, 0)


def test_a_port_without_a_listener(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    with listening() as listener:
        port = listener.getsockname()[1]
    with proxy() as server, connected(server.address) as client:
        client.sendall(asking(port))
        assert read_all(client) == REFUSED
    assert caplog.messages[0].endswith(
        f'user "" to 127.0.0.1:{port}: refused: '
        f'cannot connect to "127.0.0.1:{port}": Connection refused (ECONNREFUSED)'
    )


def test_only_allowed_users_get_through() -> None:
    with proxy(allowed_users=frozenset({"ann"})) as server, listening() as listener:
        port = listener.getsockname()[1]
        for user, reply in ((b"ann", GRANTED), (b"bob", REFUSED), (b"", REFUSED)):
            with connected(server.address) as client:
                client.sendall(asking(port, user=user))
                assert read_exactly(client, 8) == reply


@pytest.mark.parametrize(
    ("listen", "address", "name"),
    [
        ("127.0.0.1", "127.0.0.1", None),
        ("127.0.0.1", "0.0.0.1", b"127.0.0.1"),
        ("127.0.0.1", "0.0.0.1", b"localhost"),
        ("0.0.0.0", "127.0.0.1", None),
        ("0.0.0.0", "127.8.8.8", None),
    ],
)
def test_no_loop_through_itself(
    listen: str, address: str, name: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    with proxy(listen=(listen, 0)) as server:
        port = server.address[1]
        with connected(("127.0.0.1", port)) as client:
            client.sendall(asking(port, address, name=name))
            assert read_all(client) == REFUSED
    assert caplog.messages[0].endswith("refused: the destination is this proxy")


def test_no_loop_through_the_machines_other_addresses() -> None:
    own = own_address()
    with proxy(listen=("0.0.0.0", 0)) as server, connected(server.address) as client:
        client.sendall(asking(server.address[1], own))
        assert read_all(client) == REFUSED


def test_the_same_port_on_another_address_is_no_loop() -> None:
    with proxy() as server:
        port = server.address[1]
        with (
            socket.create_server(("127.0.0.9", port)) as listener,
            connected(server.address) as client,
        ):
            client.sendall(asking(port, "127.0.0.9"))
            assert read_exactly(client, 8) == GRANTED
            listener.settimeout(WAIT_SECONDS)
            accepted(listener).close()


# ---------------------------------------------------------------------- names


@contextmanager
def _names(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str] | int]
) -> Iterator[NameServer]:
    """Let the proxies ask a name server that answers this, and no other names."""
    with name_server(answers) as server:
        made = Resolver((server.address,))
        monkeypatch.setattr(socks4, "Resolver", lambda: made)
        yield server


def test_silent_name_servers_delay_no_other_client(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        _names(monkeypatch, {"quick.example": ["127.0.0.1"]}),
        proxy() as server,
        listening() as listener,
        ExitStack() as waiting,
    ):
        port = listener.getsockname()[1]
        for number in range(50):
            client = waiting.enter_context(connected(server.address))
            client.sendall(asking(port, "0.0.0.1", name=f"slow{number}.example".encode()))
        with connected(server.address) as quick:
            quick.sendall(asking(port, "0.0.0.1", name=b"quick.example"))
            assert read_exactly(quick, 8) == GRANTED
        assert server.stats().refused == 0


def test_a_name_that_is_not_answered_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        _names(monkeypatch, {}),
        proxy(connect_timeout_seconds=0.2) as server,
        connected(server.address) as client,
    ):
        client.sendall(asking(80, "0.0.0.1", name=b"slow.example"))
        assert read_all(client) == REFUSED
    assert (server.stats().timed_out, server.stats().refused) == (1, 1)


def test_an_answer_that_comes_after_the_refusal_connects_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        _names(monkeypatch, {}),
        proxy() as server,
        listening() as listener,
        connected(server.address) as late,
        logged(LOGGER, "timed out: no name in time") as refused,
    ):
        port = listener.getsockname()[1]
        late.sendall(asking(port, "0.0.0.1", name=b"slow.example"))
        while not (session := next(iter(server._sessions), None)) or not session._lookup:
            assert not select.select([late], [], [], 0.01)[0]
        lookup = session._lookup
        server._loop.post(session.time_out)
        assert refused.wait(WAIT_SECONDS)
        lookup.addresses = ["127.0.0.1"]
        lookup.done(lookup)  # as if the answer had been posted just before the time-out
        assert read_all(late) == REFUSED
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert (server.stats().refused, server.stats().connected) == (1, 0)


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ([], "the name has no IPv4 address"),
        (NO_SUCH_NAME, "Domain name not found (ENOTFOUND)"),
    ],
)
def test_a_name_without_an_address_is_refused(
    answer: list[str] | int,
    cause: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    with (
        _names(monkeypatch, {"empty.example": answer}),
        proxy() as server,
        connected(server.address) as client,
    ):
        client.sendall(asking(80, "0.0.0.1", name=b"empty.example"))
        assert read_all(client) == REFUSED
    assert caplog.messages[0].endswith(f"to empty.example:80: refused: cannot resolve: {cause}")
    assert (server.stats().refused, server.stats().active) == (1, 0)


def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, list[str] | int] = {"three.example": ["127.0.0.2", "127.0.0.3", "127.0.0.1"]}
    with (
        _names(monkeypatch, answers),
        proxy() as server,
        listening() as listener,
        connected(server.address) as client,
    ):
        client.sendall(asking(listener.getsockname()[1], "0.0.0.1", name=b"three.example"))
        assert read_exactly(client, 8) == GRANTED
    assert server.stats().refused == 0


@pytest.mark.parametrize("name", [b"127.1", b"0x7f.0.0.1", b"2130706433"])
def test_an_address_in_another_notation_is_not_looked_up(
    name: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        _names(monkeypatch, {}) as names,
        proxy() as server,
        listening() as listener,
        connected(server.address) as client,
    ):
        client.sendall(asking(listener.getsockname()[1], "0.0.0.1", name=name))
        assert read_exactly(client, 8) == GRANTED
    assert names.asked == []


def test_no_thread_for_the_resolver_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with proxy() as server, connected(server.address) as client:
        monkeypatch.setattr(threading.Thread, "start", fail)
        client.sendall(asking(80, "0.0.0.1", name=b"a.example"))
        assert read_all(client) == REFUSED
        monkeypatch.undo()
    assert "refused: cannot resolve: " in caplog.messages[0]


# ---------------------------------------------------------------------- configuration


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_clients", 0, "max_clients must be positive, not 0"),
        ("backlog", -1, "backlog must be positive, not -1"),
        ("request_timeout_seconds", 0, "request_timeout_seconds must be positive, not 0"),
        ("idle_timeout_seconds", float("nan"), "idle_timeout_seconds must be positive, not nan"),
        ("connect_timeout_seconds", -1, "connect_timeout_seconds must be positive, not -1"),
        ("grace_seconds", -0.5, "grace_seconds must be 0 or more, not -0.5"),
    ],
)
def test_wrong_settings(option: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Socks4Config(**{option: value})


def test_loopback_is_the_default() -> None:
    assert Socks4Config().listen == ("127.0.0.1", 1080)


def test_serve_before_open() -> None:
    server = Socks4Server(Socks4Config())
    server.stop()
    with pytest.raises(ValueError, match=r"^the server is not open: call open\(\) first$"):
        server.serve()


def test_a_port_in_use() -> None:
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    with listening() as listener:
        server = Socks4Server(Socks4Config(listen=listener.getsockname()))
        with pytest.raises(OSError, match=r'^\[Errno 98\] cannot bind to "127.0.0.1:'):
            server.open()
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_a_hard_limit_below_the_needed_descriptors() -> None:
    server = Socks4Server(Socks4Config(listen=("127.0.0.1", 0), max_clients=2**28))
    expected = (
        r'cannot serve "268435456 clients": they need 536870976 open files, the hard limit is'
    )
    with pytest.raises(OSError, match=expected):
        server.open()


# ---------------------------------------------------------------------- with a foreign client


@pytest.fixture
def web_server(tmp_path: Path) -> object:
    (tmp_path / "page").write_bytes(bytes(range(256)) * 4000)
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        # Serving HTTP on 127.0.0.1 port 8000 (http://127.0.0.1:8000/) ...
        yield int(process.stdout.readline().split()[5])
        process.terminate()


@pytest.mark.parametrize("option", ["--socks4", "--socks4a"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_curl(option: str, host: str, web_server: int, tmp_path: Path) -> None:
    with proxy() as server:
        ip, port = server.address
        done = subprocess.run(
            ["curl", "-sS", option, f"{ip}:{port}", f"http://{host}:{web_server}/page"],
            capture_output=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
        assert done.stderr == b""
        assert done.stdout == (tmp_path / "page").read_bytes()
    assert server.stats().bytes_to_client > len(done.stdout)
    assert (server.stats().connected, server.stats().refused) == (1, 0)
