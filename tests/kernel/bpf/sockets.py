# SPDX-License-Identifier: MIT
"""The sockets and messages that the tests use, and N, the number of calls each test makes."""

import ctypes

import pytest

import lunatik_socket
from lunatik_socket import Socket

__all__ = [
    "LOOPBACK",
    "PAIRS",
    "N",
    "listener",
    "message_vector",
    "send",
    "tcp_pair",
    "transports",
    "udp_pair",
]

N = 23  # a prime, so that no count by mistake is a multiple of it
LOOPBACK = "127.0.0.1"


def listener(backlog: int = 64) -> Socket:
    """A TCP socket that listens on a free port of loopback."""
    sock = lunatik_socket.new("inet", "tcp")
    sock.bind(LOOPBACK, 0)
    sock.listen(backlog)
    return sock


def tcp_pair() -> tuple[Socket, Socket]:
    """The two ends of a TCP connection, the one that connected first."""
    with listener() as server:
        client = lunatik_socket.new("inet", "tcp")
        client.connect(*server.getsockname())
        return client, server.accept()


def udp_pair() -> tuple[Socket, Socket]:
    """Two sockets, each connected to the other."""
    one, two = lunatik_socket.new("inet", "udp"), lunatik_socket.new("inet", "udp")
    for sock in (one, two):
        sock.bind(LOOPBACK, 0)
    one.connect(*two.getsockname())
    two.connect(*one.getsockname())
    return one, two


PAIRS = {"tcp": tcp_pair, "udp": udp_pair}
transports = pytest.mark.parametrize("transport", ["tcp", "udp"])


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint32))


def message_vector(texts: list[bytes]) -> tuple[object, object]:
    """An array of struct mmsghdr, and the objects that must stay alive while it is used."""
    buffers = [ctypes.create_string_buffer(text, max(1, len(text))) for text in texts]
    parts = [
        _Iovec(ctypes.addressof(buffer), len(text))
        for buffer, text in zip(buffers, texts, strict=True)
    ]
    headers = [_Mmsghdr(_Msghdr(iov=ctypes.pointer(part), iov_length=1)) for part in parts]
    return (_Mmsghdr * len(texts))(*headers), (buffers, parts)


def send(number: int = N) -> None:
    """Send this many messages of one byte on a TCP connection of their own."""
    one, _two = tcp_pair()
    for _ in range(number):
        one.send(b"x")
