# SPDX-License-Identifier: MIT
"""Each failure is counted once, under the errno that the caller got."""

import errno
import socket

import pytest

import lunatik_socket
from tests.kernel.bpf.sockets import LOOPBACK, N, listener, tcp_pair, udp_pair
from tests.kernel.counting import counted
from tracer.session import Session


def fail(number: int, call: object, *arguments: object) -> None:
    """Call it N times; each time it must fail with this errno."""
    for _ in range(N):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno says it
            call(*arguments)  # type: ignore[operator]
        assert caught.value.errno == number


def unused_port() -> int:
    with listener() as sock:
        port: int = sock.getsockname()[1]
        return port


def test_connection_refused(session: Session) -> None:
    port = unused_port()
    sock = lunatik_socket.new()
    with counted(session) as counts:
        fail(errno.ECONNREFUSED, sock.connect, LOOPBACK, port)
    assert counts.errors("connect") == {"ECONNREFUSED": N}
    assert counts.calls("connect", "tcp") == N


def test_connection_in_progress(session: Session) -> None:
    server = listener(N)
    address = server.getsockname()
    socks = [lunatik_socket.new() for _ in range(N)]
    with counted(session) as counts:
        for sock in socks:
            with pytest.raises(BlockingIOError):
                sock.connect(*address, "D")
    assert counts.errors("connect") == {"EINPROGRESS": N}
    assert counts.calls("connect", "tcp") == N


def test_address_in_use(session: Session) -> None:
    server = listener()
    address = server.getsockname()
    sock = lunatik_socket.new()
    with counted(session) as counts:
        fail(errno.EADDRINUSE, sock.bind, *address)
    assert counts.errors("bind") == {"EADDRINUSE": N}


def test_bound_twice(session: Session) -> None:
    server = listener()
    with counted(session) as counts:
        fail(errno.EINVAL, server.bind, LOOPBACK, 0)
    assert counts.errors("bind") == {"EINVAL": N}


def test_broadcast_without_permission(session: Session) -> None:
    sock = lunatik_socket.new("inet", "udp")
    with counted(session) as counts:
        fail(errno.EACCES, sock.connect, "127.255.255.255", 9)
    assert counts.errors("connect") == {"EACCES": N}
    assert counts.calls("connect", "udp") == N


def test_not_connected(session: Session) -> None:
    sock = lunatik_socket.new()
    with counted(session) as counts:
        fail(errno.ENOTCONN, sock.getpeername)
        fail(errno.ENOTCONN, sock.recv, 10)
    assert counts.errors("getpeername") == {"ENOTCONN": N}
    assert counts.errors("recv") == {"ENOTCONN": N}
    assert counts.bytes("recv") == 0


def test_broken_pipe(session: Session) -> None:
    sock = lunatik_socket.new()
    with counted(session) as counts:
        fail(errno.EPIPE, sock.send, b"x")
        fail(errno.EPIPE, sock.sendmsg, {}, b"x")
    assert counts.errors("send") == {"EPIPE": N}
    assert counts.errors("sendmsg") == {"EPIPE": N}
    assert counts.bytes("send") == counts.bytes("sendmsg") == 0


def test_nothing_to_read(session: Session) -> None:
    one, _two = tcp_pair()
    with counted(session) as counts:
        fail(errno.EAGAIN, one.recvmsg, {"iov_len": 10}, None, "D")
    assert counts.errors("recvmsg") == {"EAGAIN": N}
    assert counts.calls("recvmsg", "tcp") == N


def test_nothing_to_accept(session: Session) -> None:
    server = listener()
    with counted(session) as counts:
        fail(errno.EAGAIN, server.accept, "D")
    assert counts.errors("accept") == {"EAGAIN": N}


def test_not_supported(session: Session) -> None:
    one, _two = udp_pair()
    with counted(session) as counts:
        fail(errno.EOPNOTSUPP, one.listen, 5)
        fail(errno.EOPNOTSUPP, one.accept)
    assert counts.errors("listen") == {"EOPNOTSUPP": N}
    assert counts.errors("accept") == {"EOPNOTSUPP": N}


def test_message_too_long(session: Session) -> None:
    one, _two = udp_pair()
    with counted(session) as counts:
        fail(errno.EMSGSIZE, one.send, bytes(70_000))
    assert counts.errors("send") == {"EMSGSIZE": N}


def test_closed_descriptor_counts_under_other(session: Session) -> None:
    """A call that names no socket at all has no transport."""
    sock = lunatik_socket.new()
    sock.close()
    with counted(session) as counts:
        fail(errno.EBADF, sock.send, b"x")
        fail(errno.EBADF, sock.recv, 10)
        fail(errno.EBADF, sock.bind, LOOPBACK, 0)
    for operation in ("send", "recv", "bind"):
        assert counts.errors(operation) == {"EBADF": N}
        assert counts.calls(operation, "other") == N


def test_file_where_a_socket_should_be(session: Session) -> None:
    libc = __import__("ctypes").CDLL(None, use_errno=True)
    with open("/dev/null", "rb") as file, counted(session) as counts:
        for _ in range(N):
            assert libc.listen(file.fileno(), 5) == -1
    assert counts.errors("listen") == {"ENOTSOCK": N}
    assert counts.calls("listen", "other") == N


def test_bad_option(session: Session) -> None:
    sock = socket.socket()
    with counted(session) as counts:
        fail(errno.ENOPROTOOPT, sock.getsockopt, socket.SOL_TCP, 9999)
        fail(errno.ENOPROTOOPT, sock.setsockopt, socket.SOL_TCP, 9999, 1)
    assert counts.errors("getsockopt") == {"ENOPROTOOPT": N}
    assert counts.errors("setsockopt") == {"ENOPROTOOPT": N}
    sock.close()


def test_unknown_family(session: Session) -> None:
    with counted(session) as counts:
        fail(errno.EAFNOSUPPORT, socket.socket, 45, socket.SOCK_STREAM)
    assert counts.errors("new") == {"EAFNOSUPPORT": N}
    assert counts.calls("new", "other") == N
