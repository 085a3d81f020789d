# SPDX-License-Identifier: MIT
"""The results of each call. Errors are tested in test_socket_errors.py."""

from __future__ import annotations

import array
import gc
import os
import shutil
import signal
import socket as python_socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lunatik_socket
from lunatik_socket import Data, Socket, new
from tests.pure.lunatik_socket.connections import listening, tcp_pair, udp_pair

TRUNC = python_socket.MSG_TRUNC
DONTWAIT = python_socket.MSG_DONTWAIT


# --------------------------------------------------------------- new, names, connections


@pytest.mark.parametrize("family", ["inet", "i"])
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("tcp", python_socket.SOCK_STREAM),
        ("t", python_socket.SOCK_STREAM),
        ("udp", python_socket.SOCK_DGRAM),
        ("u", python_socket.SOCK_DGRAM),
    ],
)
def test_new(family: str, kind: str, number: int) -> None:
    with new(family, kind) as sock:
        assert isinstance(sock, Socket)
        assert (sock.family, sock.type) == (python_socket.AF_INET, number)
        assert not os.get_inheritable(sock.fileno())


def test_new_alone_is_tcp_over_ipv4() -> None:
    with new() as sock:
        assert sock.getsockopt("s", "t") == python_socket.SOCK_STREAM


def test_the_default_timeout_of_the_process_has_no_effect() -> None:
    python_socket.setdefaulttimeout(1.0)
    try:
        with new() as sock, tcp_pair() as (_, accepted):
            assert sock.gettimeout() is None
            assert accepted.gettimeout() is None
            assert os.get_blocking(accepted.fileno())
    finally:
        python_socket.setdefaulttimeout(None)


def test_calls_that_return_nothing() -> None:
    with new() as listener, new() as client:
        assert listener.bind(0x7F000001, 0) is None  # type: ignore[func-returns-value]
        assert listener.listen(1) is None  # type: ignore[func-returns-value]
        ip, port = listener.getsockname()
        assert ip == "127.0.0.1"
        assert client.connect(0x7F000001, port) is None  # type: ignore[func-returns-value]
        with listener.accept() as accepted:
            assert accepted.getpeername() == client.getsockname()
            assert accepted.getsockname() == client.getpeername() == (ip, port)
        assert client.setsockopt("s", "k", 1) is None  # type: ignore[func-returns-value]
        assert client.close() is None  # type: ignore[func-returns-value]


def test_an_accepted_socket_has_the_properties_of_its_listener() -> None:
    with listening() as (listener, ip, port), python_socket.create_connection((ip, port)) as client:
        listener.setblocking(False)
        with listener.accept() as accepted:
            assert type(accepted) is Socket
            assert (accepted.family, accepted.type) == (listener.family, listener.type)
            assert accepted.proto == listener.proto
            assert accepted.gettimeout() is None
            assert os.get_blocking(accepted.fileno())
            assert not os.get_inheritable(accepted.fileno())
            client.sendall(b"x")
            assert accepted.recv(1) == (b"x", 1)


def test_a_subclass_accepts_its_own_kind() -> None:
    class Mine(Socket):
        pass

    with Mine() as listener:
        listener.bind("127.0.0.1", 0)
        listener.listen(1)
        with python_socket.create_connection(listener.getsockname()), listener.accept() as accepted:
            assert type(accepted) is Mine


@pytest.mark.parametrize("name", ["python3.11", "python3.12", "python3.13", "python3.14"])
def test_other_pythons_of_this_machine_accept_as_well(name: str) -> None:
    script = """
import lunatik_socket as l
s = l.new(); s.bind("127.0.0.1", 0); s.listen(1)
c = l.new(); c.connect(*s.getsockname())
a = s.accept(); c.send(b"x")
assert a.recv(1) == (b"x", 1) and a.getpeername() == c.getsockname()
assert l.EXTRA_SYSTEM_CALLS == {"accept": ("getsockname",)}
a.shutdown()
try:
    a.send(b"y")
except BrokenPipeError:
    print("good")
"""
    root = str(Path(lunatik_socket.__file__).parents[1])
    if shutil.which(name) is None or subprocess.run([name, "-c", ""], check=False).returncode != 0:
        pytest.skip(f"needs {name}, one of the Pythons this package supports, working on PATH")
    done = subprocess.run(
        [name, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "good\n", "")


def test_accept_with_flag_d_takes_a_connection_that_waits() -> None:
    with listening() as (listener, ip, port), new() as client:
        client.connect(ip, port)
        with listener.accept("D") as accepted:
            assert accepted.getpeername() == client.getsockname()
        assert os.get_blocking(listener.fileno())


def test_flags_that_mean_nothing_to_accept_and_connect_are_ignored() -> None:
    with listening() as (listener, ip, port), new() as client:
        client.connect(ip, port, "NM")
        listener.accept("P").close()


def test_udp_connect_sets_the_peer() -> None:
    with udp_pair() as (one, other):
        one.connect(*other.getsockname())
        other.connect(*one.getsockname())
        assert one.send(b"to other") == 8
        assert other.recv(99) == (b"to other", 8)


def test_repr_names_transport_and_address() -> None:
    with tcp_pair() as (client, _):
        ip, port = client.getpeername()
        assert repr(client) == f"<lunatik_socket.Socket tcp {ip}:{port}>"


# --------------------------------------------------------------- peer, without a system call


def test_peer_is_the_address_from_accept_and_connect() -> None:
    with new() as listener, new() as client:
        listener.bind("127.0.0.1", 0)
        listener.listen(1)
        assert client.peer is None
        client.connect(*listener.getsockname())
        with listener.accept() as accepted:
            assert client.peer == listener.getsockname() == client.getpeername()
            assert accepted.peer == client.getsockname() == accepted.getpeername()


def test_peer_stays_after_the_connection_is_closed() -> None:
    with new() as listener, new() as client:
        listener.bind("127.0.0.1", 0)
        listener.listen(1)
        client.connect(*listener.getsockname())
        name = client.getsockname()
        accepted = listener.accept()
        client.close()
        accepted.close()
        assert accepted.peer == name


# --------------------------------------------------------------- close, shutdown, collection


def test_close_twice() -> None:
    sock = new()
    sock.close()
    sock.close()
    assert sock.fileno() == -1


def test_shutdown_of_one_direction_leaves_the_other() -> None:
    with tcp_pair() as (client, accepted):
        client.shutdown()
        assert accepted.recv(1) == (b"", 0)
        accepted.send(b"still")
        assert client.recv(9) == (b"still", 5)
        client.shutdown("r")
        assert client.recv(9) == (b"", 0)
        accepted.shutdown("rw")
        assert accepted.recv(9) == (b"", 0)


def test_garbage_collection_closes_without_a_warning(capfd: pytest.CaptureFixture[str]) -> None:
    sock = new()
    descriptor = sock.fileno()
    del sock
    gc.collect()
    with pytest.raises(OSError, match=r"Bad file descriptor"):
        os.fstat(descriptor)
    assert capfd.readouterr() == ("", "")


def test_garbage_collection_after_the_descriptor_was_closed_gives_no_warning(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sock = new()
    os.close(sock.fileno())
    del sock
    gc.collect()
    assert capfd.readouterr() == ("", "")


def test_the_end_of_the_process_gives_no_warning() -> None:
    script = "import lunatik_socket as l; s = l.new(); p = l.poll([s]); l.kept = s, p"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", script],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# --------------------------------------------------------------- send and recv

NUMBERS = [0, 255, 256, 513, -1]
SENDABLE: list[tuple[Any, bytes]] = [
    (b"abc", b"abc"),
    (bytearray(b"abc"), b"abc"),
    (memoryview(b"xabcx")[1:4], b"abc"),
    (array.array("H", [1, 2]), array.array("H", [1, 2]).tobytes()),
    (NUMBERS, b"\0\xff\0\1\xff"),
    (tuple(NUMBERS), b"\0\xff\0\1\xff"),
    (Data(b"abc"), b"abc"),
    (Data(b"xabcx").segment(1, 3), b"abc"),
]


@pytest.mark.parametrize(("data", "wanted"), SENDABLE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("flags", [0, python_socket.MSG_NOSIGNAL, "NM"])
def test_all_that_can_be_sent(data: Any, wanted: bytes, flags: int | str) -> None:
    with tcp_pair() as (client, accepted):
        assert client.send(data, flags) == len(wanted)
        assert accepted.recv(99) == (wanted, len(wanted))
        assert client.sendmsg({"flags": flags}, data) == len(wanted)
        assert accepted.recv(99) == (wanted, len(wanted))


def test_an_empty_send_raises_and_sends_no_datagram() -> None:
    with udp_pair() as (one, other):
        one.connect(*other.getsockname())
        for nothing in (b"", [], (), bytearray(), Data(1).segment(0, 0)):
            for flags in (0, "D"):
                with pytest.raises(ValueError, match=r"^data can not be empty$"):
                    one.send(nothing, flags)
        one.send(b"the first")
        assert other.recv(99) == (b"the first", 9)


def test_sendmsg_of_empty_bytes_on_a_stream_sends_0_bytes() -> None:
    with tcp_pair() as (client, _):
        assert client.sendmsg({}, b"") == 0


def test_an_empty_datagram_arrives() -> None:
    with udp_pair() as (one, other):
        ip, port = other.getsockname()
        assert one.sendmsg({"name": (ip, port)}, b"") == 0
        assert other.recvmsg({"iov_len": 5})[:2] == (b"", 0)


@pytest.mark.parametrize("target", [bytearray(5), memoryview(bytearray(7))[1:6], Data(5)])
@pytest.mark.parametrize("flags", [0, "", DONTWAIT, "D"])
def test_a_buffer_is_received_into_and_returned(target: Any, flags: int | str) -> None:
    with tcp_pair() as (client, accepted):
        client.send(b"abc")
        data, size = accepted.recv(target, flags)
        assert data is target
        assert size == 3
        assert bytes(target) == b"abc\0\0"
        client.send(b"\0\0\0")
        data, size, _ = accepted.recvmsg({}, target, flags)
        assert data is target
        assert (size, bytes(target)) == (3, bytes(5))


def test_a_segment_is_received_into_in_place() -> None:
    with tcp_pair() as (client, accepted):
        whole = Data(b"......")
        client.send(b"abcdef")
        assert accepted.recv(whole.segment(2, 3))[1] == 3
        assert bytes(whole) == b"..abc."


def test_an_array_of_wider_items_is_filled_by_bytes() -> None:
    with tcp_pair() as (client, accepted):
        numbers = array.array("H", [0, 0])
        client.send(b"\1\0\2\0")
        assert accepted.recv(numbers) == (numbers, 4)
        assert numbers.tobytes() == b"\1\0\2\0"


@pytest.mark.parametrize("flags", [0, "", DONTWAIT, "D", "W"])
def test_the_end_of_a_stream_is_size_0(flags: int | str) -> None:
    with tcp_pair() as (client, accepted):
        client.close()
        buffer = bytearray(5)
        lunatik_socket.poll([accepted]).select(10_000)
        assert accepted.recv(5, flags) == (b"", 0)
        assert accepted.recv(buffer, flags) == (buffer, 0)
        assert accepted.recvmsg({"iov_len": 5}, flags)[:2] == (b"", 0)
        assert accepted.recvmsg({}, buffer, flags)[:2] == (buffer, 0)


@pytest.mark.parametrize("peek", ["P", python_socket.MSG_PEEK])
def test_flag_p_leaves_the_bytes(peek: int | str) -> None:
    with tcp_pair() as (client, accepted):
        client.send(b"abc")
        assert accepted.recv(2, peek) == (b"ab", 2)
        assert accepted.recvmsg({"iov_len": 2}, peek)[:2] == (b"ab", 2)
        assert accepted.recv(9) == (b"abc", 3)


def test_flag_w_waits_for_all() -> None:
    with tcp_pair() as (client, accepted), lunatik_socket.poll([accepted]) as members:
        client.send(b"ab")

        def send_the_rest_when_the_start_is_taken() -> None:
            while members.select(0):
                pass
            client.send(b"c")

        later = threading.Thread(target=send_the_rest_when_the_start_is_taken)
        later.start()
        assert accepted.recv(3, "W") == (b"abc", 3)
        later.join(10)


def test_flag_t_returns_the_length_of_the_datagram_and_no_old_memory() -> None:
    with udp_pair() as (one, other):
        name = {"name": other.getsockname()}
        for flags in ("T", TRUNC):
            buffer = bytearray(3)
            for _ in range(4):
                one.sendmsg(name, b"abcdef")
            assert other.recv(3, flags) == (b"abc", 6)
            assert other.recv(buffer, flags) == (bytearray(b"abc"), 6)
            data, size, msghdr = other.recvmsg({"iov_len": 3}, flags)
            assert (data, size, msghdr["flags"]) == (b"abc", 6, TRUNC)
            assert other.recvmsg({}, buffer, flags)[:2] == (bytearray(b"abc"), 6)


def test_flag_t_discards_the_bytes_of_a_stream_and_returns_no_old_memory() -> None:
    with tcp_pair() as (client, accepted):
        client.send(b"abcdef")
        assert accepted.recv(3, "T") == (b"\0\0\0", 3)
        assert accepted.recvmsg({"iov_len": 2}, "T")[:2] == (b"\0\0", 2)
        assert accepted.recv(9) == (b"f", 1)


def test_flag_o_sends_urgent_data() -> None:
    with tcp_pair() as (client, accepted):
        assert client.send(b"!", "O") == 1
        client.send(b"x")
        assert accepted.recv(1, "O") == (b"!", 1)
        assert accepted.recv(9) == (b"x", 1)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=20))
def test_a_stream_keeps_every_byte_in_order(pieces: list[bytes]) -> None:
    with tcp_pair() as (client, accepted):
        for number, piece in enumerate(pieces):
            sent = client.send(piece) if number % 2 else client.sendmsg({}, list(piece))
            assert sent == len(piece)
        client.shutdown()
        received = b""
        while size := (part := accepted.recv(7))[1]:
            assert size == len(part[0])
            received += part[0]
        assert received == b"".join(pieces)


# --------------------------------------------------------------- sendmsg and recvmsg


@pytest.mark.parametrize("spelling", ["iov_len", "lov_len"])
def test_recvmsg_returns_the_same_msghdr_with_the_source_of_the_datagram(spelling: str) -> None:
    with udp_pair() as (one, other):
        ip, port = one.getsockname()
        one.sendmsg({"name": other.getsockname()}, b"abcdef")
        msghdr = {spelling: 4}
        data, size, same = other.recvmsg(msghdr)
        assert same is msghdr
        assert (data, size) == (b"abcd", 4)
        assert same["iov_len"] == 4
        assert same["flags"] == TRUNC
        assert same["name"] == {"addr": ip, "port": port}


def test_a_received_msghdr_can_address_the_answer() -> None:
    with udp_pair() as (one, other):
        one.sendmsg({"name": other.getsockname()}, b"ping")
        data, _, msghdr = other.recvmsg({"iov_len": 99})
        assert other.sendmsg(msghdr, data) == 4
        assert one.recv(99) == (b"ping", 4)


@pytest.mark.parametrize("shape", [lambda ip, port: (ip, port), lambda ip, port: [ip, port]])
def test_a_destination_may_be_a_pair(shape: Any) -> None:
    with udp_pair() as (one, other):
        name = shape(*other.getsockname())
        assert one.sendmsg({"name": name}, [1, 2]) == 2
        assert other.recv(9) == (b"\1\2", 2)


def test_recvmsg_on_a_stream_names_the_peer_known_from_connect_and_accept() -> None:
    with tcp_pair() as (client, accepted):
        client.send(b"x")
        accepted.send(b"y")
        for sock, other in ((client, accepted), (accepted, client)):
            ip, port = other.getsockname()
            assert sock.recvmsg({"iov_len": 1}, "P")[2]["name"] == {"addr": ip, "port": port}
            assert sock.recvmsg({}, bytearray(1))[2]["name"] == {"addr": ip, "port": port}


def test_recvmsg_takes_flags_in_the_position_of_the_buffer_and_after_it() -> None:
    with tcp_pair() as (client, accepted):
        client.send(b"abc")
        buffer = bytearray(2)
        assert accepted.recvmsg({"iov_len": 2}, "PD")[0] == b"ab"
        assert accepted.recvmsg({"iov_len": 2}, flags=DONTWAIT | 2)[0] == b"ab"
        assert accepted.recvmsg({}, buffer, "P")[2]["iov_len"] == 2
        assert accepted.recvmsg({"iov_len": 1}, buffer)[:2] == (bytearray(b"ab"), 2)


# --------------------------------------------------------------- options


@pytest.mark.parametrize("name", ["b", "d", "dt", "k", "n", "o", "ra", "rp"])
def test_switches(name: str) -> None:
    with new() as sock:
        assert sock.getsockopt("s", name) == 0
        sock.setsockopt("s", name, 1)
        assert sock.getsockopt("s", name) != 0


@pytest.mark.parametrize("name", ["r", "s"])
def test_buffer_sizes_are_doubled_by_the_kernel(name: str) -> None:
    with new() as sock:
        sock.setsockopt("s", name, 8192)
        assert sock.getsockopt("s", name) == 16384


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("nd", 1, 1),
        ("c", 1, 1),
        ("ki", 7, 7),
        ("kv", 3, 3),
        ("kc", 5, 5),
        ("ut", 1234, 1234),
        ("q", 1, 1),
        ("da", 1, 1),
        ("f", 16, 16),
    ],
)
def test_tcp_options(name: str, value: int, read: int) -> None:
    with new() as sock:
        sock.setsockopt("t", name, value)
        assert sock.getsockopt("t", name) == read


def test_priority_and_linger() -> None:
    with new() as sock:
        sock.setsockopt("s", "p", 3)
        assert sock.getsockopt("s", "p") == 3
        assert sock.getsockopt("s", "l") == (0, 0)
        sock.setsockopt("s", "l", (1, 5))
        assert sock.getsockopt("s", "l") == (1, 5)


def test_reading_the_error_clears_it() -> None:
    with tcp_pair() as (client, accepted):
        accepted.setsockopt("s", "l", (1, 0))
        accepted.close()
        assert lunatik_socket.poll([client]).select(10_000) == (0, client)
        assert client.getsockopt("s", "e") == 104
        assert client.getsockopt("s", "e") == 0


# --------------------------------------------------------------- signals


class StopError(Exception):
    pass


BLOCKED: list[tuple[type[BaseException], Callable[[Socket, Socket], object]]] = [
    (StopError, lambda _, sock: sock.recv(1)),
    (TypeError, lambda _, sock: sock.recv(1)),
    (ValueError, lambda _, sock: sock.recv(bytearray(1))),
    (BufferError, lambda _, sock: sock.recv(Data(1), "P")),
    (TimeoutError, lambda _, sock: sock.recvmsg({"iov_len": 1})),
    (BlockingIOError, lambda _, sock: sock.recvmsg({}, bytearray(1))),
    (ConnectionError, lambda listener, _: listener.accept()),
    (TypeError, lambda _, sock: [sock.send(bytes(1 << 20)) for _ in range(64)]),
    (KeyboardInterrupt, lambda _, sock: lunatik_socket.poll([sock]).select()),
]


@contextmanager
def alarm(handler: Callable[..., object]) -> Iterator[None]:
    """Call `handler` once, 50 ms into the block."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(("kind", "call"), BLOCKED)
def test_a_handler_that_raises_ends_a_blocked_call_and_its_error_passes_unchanged(
    kind: type[BaseException], call: Callable[[Socket, Socket], object]
) -> None:
    raised = kind(5, "of the handler")

    def handler(*_: object) -> None:
        raise raised

    with listening() as (listener, ip, port), new() as client:
        client.connect(ip, port)
        with listener.accept() as accepted:
            with pytest.raises(kind) as caught, alarm(handler):
                call(listener, accepted)
            assert caught.value is raised
            assert caught.value.args == (5, "of the handler")


def test_an_error_with_a_file_name_from_a_handler_passes_unchanged() -> None:
    def handler(*_: object) -> None:
        open("/nosuch/file", "rb")  # noqa: SIM115

    with tcp_pair() as (_, accepted):
        with pytest.raises(FileNotFoundError) as caught, alarm(handler):
            accepted.recv(1)
        assert (caught.value.errno, caught.value.filename) == (2, "/nosuch/file")
        assert caught.value.strerror == os.strerror(2)


def test_a_handler_that_returns_lets_a_blocked_call_go_on() -> None:
    with tcp_pair() as (client, accepted), alarm(lambda *_: client.send(b"x")):
        assert accepted.recv(1) == (b"x", 1)


BROKEN_PIPE = """
import errno, signal
from tests.pure.lunatik_socket.connections import tcp_pair
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
with tcp_pair() as (client, accepted):
    client.shutdown("w")
    calls = [
        lambda: client.send(b"x"),
        lambda: client.send(b"x", 0x40),
        lambda: client.send([1], "D"),
        lambda: client.sendmsg({}, b"x"),
    ]
    for call in calls:
        try:
            call()
        except BrokenPipeError as error:
            assert error.errno == errno.EPIPE
            print("EPIPE")
"""


def test_a_broken_pipe_never_kills_even_with_sigpipe_at_its_default() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_PIPE],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=os.path.dirname(__file__),  # noqa: PTH120
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "EPIPE\n" * 4, "")


# --------------------------------------------------------------- the package


def test_all_lists_the_public_names() -> None:
    for name in lunatik_socket.__all__:
        assert getattr(lunatik_socket, name) is not None
    public = {name for name in vars(lunatik_socket) if not name.startswith("_")}
    modules = {name for name in public if type(getattr(lunatik_socket, name)) is type(sys)}
    assert public - modules == set(lunatik_socket.__all__)
