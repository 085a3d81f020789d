# SPDX-License-Identifier: MIT
"""The listening socket, and the thread that accepts connections and watches their deadlines.

Nothing here waits for a client: reading, the TLS handshake and the log-in are up to the thread of
each connection.
"""

import logging
import os
import resource
import select
import socket
import time
from collections.abc import Callable
from errno import EMFILE, ENFILE, ENOBUFS, ENOMEM
from pathlib import Path
from threading import Thread

from tracer.errors import TracerError
from tracer.exporter.http.connections import Connection, Connections
from tracer.exporter.http.refusals import Refusals

__all__ = ["Listener", "connections_for_descriptors", "listen"]

TICK_SECONDS = 0.25
PAUSE_SECONDS = 0.1
_BACKLOG = 1024  # the kernel takes the smaller of this and net.core.somaxconn
_SPARE_DESCRIPTORS = 16  # for the files that a scrape reads, and for connections being closed
_FEWEST_CONNECTIONS = 4
_NO_ROOM = frozenset({EMFILE, ENFILE, ENOBUFS, ENOMEM})

_log = logging.getLogger(__name__)


def listen(address: tuple[str, int]) -> socket.socket:
    """A socket that listens on `address`; raises TracerError if there is none."""
    host, port = address
    try:
        family, *_, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _named(error, address) from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _named(error, address) from None
    return listening


def _named(error: OSError, address: tuple[str, int]) -> TracerError:
    host, port = address
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if isinstance(error, socket.gaierror):
        return TracerError(
            "serve metrics on", shown, error.strerror, hint="give --metrics ADDR:PORT"
        )
    return TracerError(
        "serve metrics on", shown, errno=error.errno, hint="choose another with --metrics"
    )


def connections_for_descriptors(wanted: int) -> int:
    """How many connections this process has descriptors for, at most `wanted`."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return min(wanted, max(_FEWEST_CONNECTIONS, soft - used - _SPARE_DESCRIPTORS))


class Listener:
    """Accepts connections and calls `serve` with each in a thread of its own, until stopped."""

    def __init__(
        self,
        listening: socket.socket,
        connections: Connections,
        refusals: Refusals,
        serve: Callable[[Connection], None],
        first_seconds: float,
    ) -> None:
        self._listening = listening
        self._listening.setblocking(False)
        self._connections = connections
        self._refusals = refusals
        self._serve = serve
        self._first_seconds = first_seconds
        self._threads: set[Thread] = set()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Close the port and every connection; returns when their threads have ended."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._listening.close()
        os.close(self._stop)
        self._connections.shut_all()
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        ready = select.poll()
        ready.register(self._stop, select.POLLIN)
        ready.register(self._listening, select.POLLIN)
        next_tick = time.monotonic() + TICK_SECONDS
        while True:
            wait = max(0.0, next_tick - time.monotonic())
            found = dict(ready.poll(wait * 1000))
            if self._stop in found:
                return
            if found:
                self._accept()
            if time.monotonic() >= next_tick:
                self._tick()
                next_tick = time.monotonic() + TICK_SECONDS

    def _tick(self) -> None:
        self._connections.shut_overdue()
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        self._refusals.log_if_due()

    def _accept(self) -> None:
        try:
            accepted, address = self._listening.accept()
        except OSError as error:
            # accept(2) also reports errors of the connection that it would have returned. Those
            # concern nobody else.
            if error.errno in _NO_ROOM:
                self._wait_for_room()
            return
        connection = Connection(accepted, str(address[0]), self._first_seconds)
        if not self._connections.admit(connection):
            self._refusals.count("room", connection.address)
            accepted.close()
            return
        # Daemon threads: if the main thread fails, the process must not wait for a client.
        thread = Thread(target=self._serve, args=(connection,), name="scrape", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the limit of threads is reached
            self._refusals.count("room", connection.address)
            self._connections.close(connection)
            return
        self._threads.add(thread)

    def _wait_for_room(self) -> None:
        """Let an old connection make way, and wait: poll(2) would report the new one at once."""
        self._refusals.count("descriptors")
        self._connections.make_room()
        self._tick()
        stop = select.poll()
        stop.register(self._stop, select.POLLIN)
        stop.poll(PAUSE_SECONDS * 1000)
