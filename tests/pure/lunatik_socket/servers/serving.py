# SPDX-License-Identifier: MIT
"""Runs a server in a thread, and makes clients of it with Python's own sockets."""

import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from lunatik_socket.servers.server import Server
from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server

WAIT_SECONDS = 20
GRANTED = b"\0\x5a\0\0\0\0\0\0"
REFUSED = b"\0\x5b\0\0\0\0\0\0"

AnyServer = TypeVar("AnyServer", bound=Server[Any, Any])


@contextmanager
def serving(server: AnyServer) -> Iterator[AnyServer]:
    """Serve in a thread until the end of the block.

    An exception in that thread fails the test.
    """
    server.open()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive(), "serve() does not end after stop()"


@contextmanager
def proxy(**options: Any) -> Iterator[Socks4Server]:
    settings = {"listen": ("127.0.0.1", 0), "max_clients": 100, "grace_seconds": 0.2, **options}
    with serving(Socks4Server(Socks4Config(**settings))) as server:
        yield server


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=WAIT_SECONDS)


def listening(backlog: int = 16, address: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_server((address, 0), backlog=backlog)
    sock.settimeout(WAIT_SECONDS)
    return sock


def accepted(listener: socket.socket) -> socket.socket:
    sock, _ = listener.accept()
    sock.settimeout(WAIT_SECONDS)
    return sock


def asking(
    port: int,
    address: str = "127.0.0.1",
    user: bytes = b"",
    name: bytes | None = None,
    command: int = 1,
) -> bytes:
    head = struct.pack("!BBH", 4, command, port) + socket.inet_aton(address) + user + b"\0"
    return head if name is None else head + name + b"\0"


def read_exactly(sock: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size and (more := sock.recv(size - len(received))):
        received += more
    return bytes(received)


def read_all(sock: socket.socket) -> bytes:
    received = bytearray()
    while more := sock.recv(65536):
        received += more
    return bytes(received)


@contextmanager
def logged(logger: str, text: str) -> Iterator[threading.Event]:
    """Yield an event that is set when a line of this log contains `text`."""
    seen = threading.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                seen.set()

    log, watch = logging.getLogger(logger), Watch()
    level = log.level
    log.addHandler(watch)
    log.setLevel(logging.INFO)
    try:
        yield seen
    finally:
        log.removeHandler(watch)
        log.setLevel(level)


@contextmanager
def tunnel(
    server: Socks4Server, listener: socket.socket
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a client that is connected through the proxy, and its target's socket."""
    with connected(server.address) as client:
        client.sendall(asking(listener.getsockname()[1]))
        assert read_exactly(client, 8) == GRANTED
        with accepted(listener) as target:
            yield client, target


def own_address() -> str:
    """An address of this machine that is not on loopback; skips the test if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a route is looked up, nothing is sent
        except OSError:
            pytest.skip("needs a route to another address than loopback")
        return str(probe.getsockname()[0])
