# SPDX-License-Identifier: MIT
"""The traffic of `lunatik-socket demo`, in one process that is traced with its children.

The SOCKSv4 proxy and the echo server of `lunatik_socket`, Python's HTTP server as a target, curl
and other clients, and some calls that fail.
"""

import contextlib
import http.server
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import lunatik_socket
from lunatik_socket.servers.echo import EchoConfig, EchoServer
from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server

__all__ = ["main"]

_ROUND_SECONDS = 0.05
_TIMEOUT_MS = 2000
_BODY = bytes(range(256)) * 256

Address = tuple[str, int]


def main() -> None:
    """Make traffic for as many seconds as the first argument says, or until SIGTERM."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    end = time.monotonic() + float(sys.argv[1])
    with (
        _running(Socks4Server(Socks4Config(listen=("127.0.0.1", 0), grace_seconds=0))) as proxy,
        _running(EchoServer(EchoConfig(listen=("127.0.0.1", 0), grace_seconds=0))) as echo,
        _http_server() as target,
    ):
        while not over.wait(_ROUND_SECONDS) and time.monotonic() < end:
            _curl(proxy, target)
            for _ in range(5):
                _stream(echo)
                _datagrams(echo)
            _failures(echo)


@contextlib.contextmanager
def _running(server: Socks4Server | EchoServer) -> Iterator[Address]:
    server.open()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join()


class _Pages(http.server.BaseHTTPRequestHandler):
    """Serves the same 64 KiB for every path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(_BODY)))
        self.end_headers()
        self.wfile.write(_BODY)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def _http_server() -> Iterator[Address]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,))
        thread.start()
        try:
            yield "127.0.0.1", server.server_port
        finally:
            server.shutdown()
            thread.join()


def _curl(proxy: Address, target: Address) -> None:
    """curl fetches a page of the HTTP server through the proxy."""
    if (curl := shutil.which("curl")) is None:
        return
    command = [curl, "--silent", "--output", "/dev/null", "--max-time", "5"]
    through = ["--socks4", f"{proxy[0]}:{proxy[1]}", f"http://{target[0]}:{target[1]}/"]
    subprocess.run(command + through, check=False)


def _stream(echo: Address) -> None:
    """A TCP connection: send, and receive the echo."""
    with lunatik_socket.new("inet", "tcp") as sock:
        sock.setsockopt("t", "nd", 1)
        sock.connect(*echo)
        sock.getpeername()
        sock.getsockopt("s", "r")
        sock.send(b"x" * 1000)
        poll = lunatik_socket.poll([sock])
        if poll.select(_TIMEOUT_MS):
            sock.recv(4096)
        poll.close()


def _datagrams(echo: Address) -> None:
    with lunatik_socket.new("inet", "udp") as sock:
        sock.bind("127.0.0.1", 0)
        sock.getsockname()
        sock.sendmsg({"name": {"addr": echo[0], "port": echo[1]}}, b"y" * 100)
        poll = lunatik_socket.poll([sock])
        if poll.select(_TIMEOUT_MS):
            sock.recvmsg({"iov_len": 200})
        poll.close()


def _failures(echo: Address) -> None:
    """Errors that servers meet every day."""
    with (
        lunatik_socket.new("inet", "tcp") as sock,
        lunatik_socket.new("inet", "udp") as idle,
    ):
        with contextlib.suppress(OSError):
            sock.bind(*echo)  # EADDRINUSE
        with contextlib.suppress(OSError):
            sock.getpeername()  # ENOTCONN
        with contextlib.suppress(OSError):
            sock.connect("127.0.0.1", 1)  # ECONNREFUSED
        with contextlib.suppress(OSError):
            idle.recv(1, "D")  # EAGAIN
