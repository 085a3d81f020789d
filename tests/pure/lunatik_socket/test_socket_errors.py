# SPDX-License-Identifier: MIT
"""The errors of every call: type, errno and message."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lunatik_socket import Data, Socket, new, poll
from tests.pure.lunatik_socket.connections import listening, refused_port, tcp_pair, udp_pair


@contextmanager
def refused(number: int, message: str, kind: type[OSError] = OSError) -> Iterator[None]:
    """Assert that the block raises an OSError of exactly this class, errno and message."""
    with pytest.raises(OSError, match=r".") as caught:
        yield
    assert type(caught.value) is kind
    assert caught.value.errno == number
    cause = f"{os.strerror(number)} ({errno.errorcode[number]})"
    assert caught.value.strerror == message.replace("…", cause)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# --------------------------------------------------------------- refused by the kernel


def test_connect_to_a_port_without_listener() -> None:
    port = refused_port()
    with (
        new() as sock,
        refused(111, f'cannot connect to "127.0.0.1:{port}": …', ConnectionRefusedError),
    ):
        sock.connect("127.0.0.1", port)


def test_connect_twice() -> None:
    with tcp_pair() as (client, _):
        ip, port = client.getpeername()
        with refused(errno.EISCONN, f'cannot connect to "{ip}:{port}": …'):
            client.connect(ip, port)


@pytest.mark.parametrize("flags", ["D", "DN", 0x40, os.O_NONBLOCK])
def test_connect_without_waiting_is_in_progress_and_completes(flags: int | str) -> None:
    with listening() as (listener, ip, port), new() as sock:
        with refused(errno.EINPROGRESS, f'cannot connect to "{ip}:{port}": …', BlockingIOError):
            sock.connect(ip, port, flags)
        assert os.get_blocking(sock.fileno())
        accepted = listener.accept()
        accepted.send(b"x")
        assert sock.recvmsg({"iov_len": 1})[2]["name"] == {"addr": ip, "port": port}
        accepted.close()


def test_bind_to_an_address_in_use() -> None:
    hint = "choose another port, or 0 for one the kernel picks"
    with (
        listening() as (_, ip, port),
        new() as sock,
        refused(errno.EADDRINUSE, f'cannot bind to "{ip}:{port}": …; {hint}'),
    ):
        sock.bind(ip, port)


def test_bind_to_an_address_of_another_machine() -> None:
    hint = "the address must be one of this machine's"
    with new() as sock, refused(errno.EADDRNOTAVAIL, f'cannot bind to "192.0.2.1:0": …; {hint}'):
        sock.bind("192.0.2.1", 0)


def test_bind_twice() -> None:
    with listening() as (listener, ip, _), refused(errno.EINVAL, f'cannot bind to "{ip}:1": …'):
        listener.bind(ip, 1)


def test_listen_on_udp() -> None:
    with udp_pair() as (sock, _):
        ip, port = sock.getsockname()
        with refused(errno.EOPNOTSUPP, f'cannot listen on "{ip}:{port}": …'):
            sock.listen(1)


def test_the_message_names_the_bound_address() -> None:
    with new() as sock:
        sock.bind("127.0.0.1", 0)
        with refused(errno.EINVAL, 'cannot accept on "127.0.0.1:0": …'):
            sock.accept()


def test_accept_without_listen() -> None:
    with new() as sock, refused(errno.EINVAL, f'cannot accept on "descriptor {sock.fileno()}": …'):
        sock.accept()


@pytest.mark.parametrize("flags", ["D", 0x40, os.O_NONBLOCK])
@pytest.mark.parametrize("blocking", [True, False])
def test_accept_without_waiting(flags: int | str, blocking: bool) -> None:
    with listening() as (listener, ip, port):
        listener.setblocking(blocking)
        with refused(errno.EAGAIN, f'cannot accept on "{ip}:{port}": …', BlockingIOError):
            listener.accept(flags)
        assert os.get_blocking(listener.fileno()) == blocking
        assert listener.gettimeout() == (None if blocking else 0)


RECEIVES: list[tuple[str, Callable[[Socket], object]]] = [
    ("recv", lambda sock: sock.recv(1, "D")),
    ("recv", lambda sock: sock.recv(1, 0x40)),
    ("recv", lambda sock: sock.recv(bytearray(1), 0x40)),
    ("recv", lambda sock: sock.recv(Data(1), "D")),
    ("recv", lambda sock: sock.recv(1, "DT")),
    ("recvmsg", lambda sock: sock.recvmsg({"iov_len": 1}, "D")),
    ("recvmsg", lambda sock: sock.recvmsg({"iov_len": 1}, "DT")),
    ("recvmsg", lambda sock: sock.recvmsg({}, bytearray(1), "D")),
]


@pytest.mark.parametrize(("name", "call"), RECEIVES)
def test_receive_without_waiting(name: str, call: Callable[[Socket], object]) -> None:
    with tcp_pair() as (client, _):
        ip, port = client.getpeername()
        with refused(errno.EAGAIN, f'cannot {name} from "{ip}:{port}": …', BlockingIOError):
            call(client)


@pytest.mark.parametrize(("name", "call"), RECEIVES)
def test_receive_without_a_connection(name: str, call: Callable[[Socket], object]) -> None:
    with (
        new() as sock,
        refused(errno.ENOTCONN, f'cannot {name} from "descriptor {sock.fileno()}": …'),
    ):
        call(sock)


@pytest.mark.parametrize("call", [lambda a: a.recv(1), lambda a: a.recvmsg({"iov_len": 1})])
def test_a_reset_connection(call: Callable[[Socket], object]) -> None:
    with tcp_pair() as (client, accepted):
        accepted.setsockopt("s", "l", (1, 0))
        accepted.close()
        with pytest.raises(ConnectionResetError, match=r'recv(msg)? from "127\.0\.0\.1:\d+": Conn'):
            call(client)


def test_send_after_shutdown() -> None:
    with tcp_pair() as (client, _):
        ip, port = client.getpeername()
        client.shutdown()
        for call in (lambda: client.send(b"x"), lambda: client.send([1], "D")):
            with refused(errno.EPIPE, f'cannot send to "{ip}:{port}": …', BrokenPipeError):
                call()
        with refused(errno.EPIPE, f'cannot sendmsg to "{ip}:{port}": …', BrokenPipeError):
            client.sendmsg({}, b"x")


def test_send_into_a_full_buffer() -> None:
    with tcp_pair() as (client, _):
        ip, port = client.getpeername()
        with refused(errno.EAGAIN, f'cannot send to "{ip}:{port}": …', BlockingIOError):
            while client.send(bytes(1 << 16), "D"):
                pass


def test_a_datagram_without_destination() -> None:
    with new("i", "u") as sock:
        where = f"descriptor {sock.fileno()}"
        with refused(errno.EDESTADDRREQ, f'cannot send to "{where}": …'):
            sock.send(b"x")
        with refused(errno.EDESTADDRREQ, f'cannot sendmsg to "{where}": …'):
            sock.sendmsg({}, b"x")


def test_a_datagram_that_is_too_long() -> None:
    with new("i", "u") as sock, refused(errno.EMSGSIZE, 'cannot sendmsg to "127.0.0.1:9": …'):
        sock.sendmsg({"name": ("127.0.0.1", 9)}, bytes(70_000))


def test_names_without_a_connection() -> None:
    with new() as sock:
        where = f"descriptor {sock.fileno()}"
        with refused(errno.ENOTCONN, f'cannot get the peer\'s name of "{where}": …'):
            sock.getpeername()
        with refused(errno.ENOTCONN, f'cannot shut down "{where}": …'):
            sock.shutdown()


def test_options_the_kernel_refuses() -> None:
    with new("i", "u") as sock:
        where = f"descriptor {sock.fileno()}"
        with refused(errno.EOPNOTSUPP, f'cannot get option "nd" of "{where}": …'):
            sock.getsockopt("t", "nd")
        with refused(errno.ENOPROTOOPT, f'cannot set option "e" of "{where}": …'):
            sock.setsockopt("s", "e", 1)


def test_no_descriptors_left() -> None:
    hint = "raise the limit of open files (ulimit -n)"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listening() as (listener, ip, port), new() as client, new() as spare:
        client.connect(ip, port)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            with refused(errno.EMFILE, f'cannot make "inet udp socket": …; {hint}'):
                new("inet", "udp")
            with refused(errno.EMFILE, f'cannot accept on "{ip}:{port}": …; {hint}'):
                listener.accept()
            with refused(errno.EMFILE, f'cannot make "poll": …; {hint}'):
                poll([spare])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_close_of_a_descriptor_that_was_closed_elsewhere() -> None:
    sock = new()
    where = f"descriptor {sock.fileno()}"
    os.close(sock.fileno())
    with pytest.raises(OSError, match=r"cannot close ") as caught:
        sock.close()
    assert caught.value.errno == errno.EBADF
    assert where not in str(caught.value)  # Python has dropped the number by then


# --------------------------------------------------------------- a closed socket

CLOSED: list[tuple[str, Callable[[Socket], object]]] = [
    ("bind to", lambda sock: sock.bind("127.0.0.1", 0)),
    ("listen on", lambda sock: sock.listen(1)),
    ("accept on", lambda sock: sock.accept()),
    ("connect to", lambda sock: sock.connect("127.0.0.1", 9)),
    ("send to", lambda sock: sock.send(b"x")),
    ("send to", lambda sock: sock.send([1])),
    ("sendmsg to", lambda sock: sock.sendmsg({}, b"x")),
    ("recv from", lambda sock: sock.recv(1)),
    ("recv from", lambda sock: sock.recv(bytearray(1))),
    ("recv from", lambda sock: sock.recv(1, "D")),
    ("recvmsg from", lambda sock: sock.recvmsg({"iov_len": 1})),
    ("recvmsg from", lambda sock: sock.recvmsg({}, bytearray(1))),
    ("get the local name of", lambda sock: sock.getsockname()),
    ("get the peer's name of", lambda sock: sock.getpeername()),
    ('get option "r" of', lambda sock: sock.getsockopt("s", "r")),
    ('set option "r" of', lambda sock: sock.setsockopt("s", "r", 1)),
    ("shut down", lambda sock: sock.shutdown()),
    ("poll", lambda sock: poll([sock])),
]


@pytest.mark.parametrize(("action", "call"), CLOSED)
def test_a_closed_socket_is_ebadf(action: str, call: Callable[[Socket], object]) -> None:
    sock = new()
    sock.close()
    with pytest.raises(OSError, match=f"cannot {re.escape(action)} ") as caught:
        call(sock)
    assert caught.value.errno == errno.EBADF
    assert caught.value.strerror.endswith('": Bad file descriptor (EBADF); the socket is closed')


# --------------------------------------------------------------- wrong arguments

BYTES = "data must be bytes-like, a list of integers or a Data, not "
BUFFER = "buffer must be a writable bytes-like object or a Data, not "
RANGE = "Port number out of range: "
WRONG: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda _: new("inet6"), ValueError, "invalid family name 'inet6': must be "),
    (lambda _: new("INET"), ValueError, "invalid family name 'INET': must be "),
    (lambda _: new("i", "stream"), ValueError, "invalid type name 'stream': must be "),
    (lambda _: new("i", 1), ValueError, "invalid type name 1: must be "),  # type: ignore[arg-type]
    (lambda s: s.bind("localhost", 0), ValueError, "invalid address 'localhost': must be "),
    (lambda s: s.bind("", 0), ValueError, "invalid address '': must be "),
    (lambda s: s.bind(None, 0), TypeError, "address must be a string or an integer, not NoneType"),
    (lambda s: s.bind("127.0.0.1", -1), ValueError, RANGE + "-1 (must be 0 to 65535)"),
    (lambda s: s.bind("127.0.0.1", 65536), ValueError, RANGE + "65536 (must be 0 to 65535)"),
    (lambda s: s.connect("127.0.0.1", 0), ValueError, RANGE + "0 (must be 1 to 65535)"),
    (lambda s: s.connect("127.0.0.1", "80"), TypeError, "port must be an integer, not str"),
    (lambda s: s.connect("127.0.0.1", 80, "Z"), ValueError, "invalid flags name 'Z': letters are "),
    (lambda s: s.listen(0), ValueError, "backlog must be positive and below 2^31, not 0"),
    (lambda s: s.listen(-5), ValueError, "backlog must be positive and below 2^31, not -5"),
    (lambda s: s.listen(1 << 31), ValueError, "backlog must be positive and below 2^31, not 2147"),
    (lambda s: s.listen("5"), TypeError, "backlog must be an integer, not str"),
    (lambda s: s.accept("x"), ValueError, "invalid flags name 'x': letters are "),
    (lambda s: s.accept(1.5), TypeError, "flags must be an integer or a string, not float"),
    (lambda s: s.send("text"), TypeError, BYTES + "str"),
    (lambda s: s.send(None), TypeError, BYTES + "NoneType"),
    (lambda s: s.send(5), TypeError, BYTES + "int"),
    (lambda s: s.send([1, "2"]), TypeError, "data must hold integers only, not str"),
    (lambda s: s.send(memoryview(b"abcd")[::2]), ValueError, "data must be one piece of "),
    (lambda s: s.send(b"x", "d"), ValueError, "invalid flags name 'd': letters are "),
    (lambda s: s.send(b"x", -1), ValueError, "flags out of range: -1 (must be "),
    (lambda s: s.send(b"x", 1 << 31), ValueError, "flags out of range: 2147483648 (must be "),
    (lambda s: s.send(b"x", 1.5), TypeError, "flags must be an integer or a string, not float"),
    (lambda s: s.sendmsg({}), ValueError, "data can not be empty"),
    (lambda s: s.sendmsg({}, []), ValueError, "data can not be empty"),
    (lambda s: s.sendmsg({}, Data(3).segment(0, 0)), ValueError, "data can not be empty"),
    (lambda s: s.send(b""), ValueError, "data can not be empty"),
    (lambda s: s.send(b"", "D"), ValueError, "data can not be empty"),
    (lambda s: s.send([]), ValueError, "data can not be empty"),
    (lambda s: s.send(()), ValueError, "data can not be empty"),
    (lambda s: s.send(bytearray()), ValueError, "data can not be empty"),
    (lambda s: s.send(memoryview(b"")), ValueError, "data can not be empty"),
    (lambda s: s.send(Data(3).segment(0, 0)), ValueError, "data can not be empty"),
    (lambda s: s.sendmsg({}, "text"), TypeError, BYTES + "str"),
    (lambda s: s.sendmsg(b"x"), TypeError, "msghdr must be a dict, not bytes"),
    (lambda s: s.sendmsg({"name": ("127.0.0.1", 0)}, b"x"), ValueError, RANGE + "0 (must be 1 "),
    (lambda s: s.sendmsg({"name": ("x", 1)}, b"x"), ValueError, "invalid address 'x': must be "),
    (lambda s: s.sendmsg({"name": {"addr": 1}}, b"x"), ValueError, "'name' can not be without 'po"),
    (lambda s: s.sendmsg({"flags": "?"}, b"x"), ValueError, "invalid flags name '?': letters are "),
    (lambda s: s.recv(0), ValueError, "size must be positive and below 2^63, not 0"),
    (lambda s: s.recv(-1), ValueError, "size must be positive and below 2^63, not -1"),
    (lambda s: s.recv(1 << 63), ValueError, "size must be positive and below 2^63, not 9223"),
    (lambda s: s.recv(0, "P"), ValueError, "size must be positive and below 2^63, not 0"),
    (lambda s: s.recv(None), TypeError, BUFFER + "NoneType"),
    (lambda s: s.recv("x"), TypeError, BUFFER + "str"),
    (lambda s: s.recv(b"x"), TypeError, BUFFER + "bytes"),
    (lambda s: s.recv([0, 0]), TypeError, BUFFER + "list"),
    (lambda s: s.recv(memoryview(bytearray(4))[::2]), TypeError, BUFFER + "memoryview"),
    (lambda s: s.recv(bytearray()), ValueError, "buffer can not be empty"),
    (lambda s: s.recv(bytearray(), 2), ValueError, "buffer can not be empty"),
    (lambda s: s.recv(Data(3).segment(3)), ValueError, "buffer can not be empty"),
    (lambda s: s.recv(1, "Q"), ValueError, "invalid flags name 'Q': letters are "),
    (lambda s: s.recv(bytearray(1), -1), ValueError, "flags out of range: -1 (must be "),
    (lambda s: s.recv(bytearray(1), 1 << 40), ValueError, "flags out of range: 1099511627776 (mu"),
    (lambda s: s.recv(1, b"D"), TypeError, "flags must be an integer or a string, not bytes"),
    (lambda s: s.recvmsg({}), ValueError, "'iov_len' can not be empty"),
    (lambda s: s.recvmsg({}, "P"), ValueError, "'iov_len' can not be empty"),
    (lambda s: s.recvmsg({"iov_len": 0}), ValueError, "'iov_len' must be positive and below 2^63"),
    (lambda s: s.recvmsg({"iov_len": "5"}), TypeError, "'iov_len' must be an integer, not str"),
    (lambda s: s.recvmsg({"iov_len": 5}, "Q"), ValueError, "invalid flags name 'Q': letters are "),
    (lambda s: s.recvmsg({"iov_len": 5}, None, b"D"), TypeError, "flags must be an integer or a "),
    (lambda s: s.recvmsg({}, b"x"), TypeError, BUFFER + "bytes"),
    (lambda s: s.recvmsg({}, bytearray()), ValueError, "buffer can not be empty"),
    (lambda s: s.recvmsg([("iov_len", 5)]), TypeError, "msghdr must be a dict, not list"),
    (lambda s: s.getsockopt("x", "r"), ValueError, "invalid level name 'x': must be one of "),
    (lambda s: s.getsockopt("s", "x"), ValueError, "invalid option name 'x' of level 's': must "),
    (lambda s: s.getsockopt("t", "r"), ValueError, "invalid option name 'r' of level 't': must "),
    (lambda s: s.setsockopt("s", "x", 1), ValueError, "invalid option name 'x' of level 's': "),
    (lambda s: s.setsockopt("s", "r", "1"), TypeError, "val must be an integer, not str"),
    (lambda s: s.setsockopt("s", "r", 1 << 31), ValueError, "val out of range: 2147483648 (must"),
    (lambda s: s.setsockopt("s", "l", 1), TypeError, 'val of option "l" must be (on, seconds)'),
    (lambda s: s.shutdown("both"), ValueError, "invalid direction 'both': must be "),
]


@pytest.mark.parametrize(("call", "kind", "message"), WRONG)
def test_a_wrong_argument_is_named_before_any_system_call(
    call: Callable[[Socket], object], kind: type[Exception], message: str
) -> None:
    # On a closed socket, because a system call would raise EBADF first.
    sock = new()
    sock.close()
    with pytest.raises(kind) as caught:
        call(sock)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(message)


def test_a_wrong_argument_receives_nothing_from_the_socket() -> None:
    with tcp_pair() as (client, accepted):
        client.send(b"abc")
        for call, kind, _ in WRONG:
            with pytest.raises(kind):
                call(accepted)
        assert accepted.recv(9) == (b"abc", 3)
        accepted.shutdown()
        assert client.recv(9) == (b"", 0)
