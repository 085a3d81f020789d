# SPDX-License-Identifier: MIT
"""A traced process that makes a known number of calls, to check what the exporter shows."""

import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.kernel.children import TIMEOUT_SECONDS, Child
from tracer.model.config import Config, Filter
from tracer.session import Session

__all__ = ["BYTES", "CALLS", "Worker", "working"]

CALLS = 23
BYTES = 5


class Worker:
    """A child that does one round of the workload on each order.

    Orders and answers go through pipes, which are not sockets, so only the workload is counted.
    """

    def __init__(self, job: Callable[[], object]) -> None:
        self._orders, self._order = os.pipe()
        self._answer, self._answers = os.pipe()
        self._child = Child(lambda: self._serve(job))
        self.pid = self._child.pid
        os.close(self._orders)
        os.close(self._answers)

    def work(self) -> None:
        """Do one round; returns when it is done."""
        os.write(self._order, b"w")
        ready, _, _ = select.select([self._answer], [], [], TIMEOUT_SECONDS)
        assert ready, "the worker does not answer"
        assert os.read(self._answer, 1) == b"d"

    def end(self) -> None:
        """Let it end; it must end with status 0."""
        os.close(self._order)
        os.close(self._answer)
        assert self._child.wait() == 0

    def _serve(self, job: Callable[[], object]) -> None:
        os.close(self._order)
        while os.read(self._orders, 1):
            job()
            os.write(self._answers, b"d")


def exchange(port: int = 0) -> None:
    """One TCP connection to this port, CALLS messages on it, and CALLS connections refused."""
    with socket.create_server(("127.0.0.1", port)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            for _ in range(CALLS):
                client.send(b"x" * BYTES)
                assert len(peer.recv(100)) == BYTES
    # A port that is bound but not listening refuses connections, and no other program can take it.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for _ in range(CALLS):
            with socket.socket() as client:
                assert client.connect_ex(closed.getsockname()) == errno.ECONNREFUSED


class Round:
    """Rounds of work in the background, for tests that watch the numbers change."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            self._worker.work()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(TIMEOUT_SECONDS)
        assert not self._thread.is_alive()


@contextmanager
def working(
    job: Callable[[], object] = exchange, *, measure_cost: bool = False, connections: bool = False
) -> Iterator[tuple[Worker, Session]]:
    """A worker, and a session that traces only the worker."""
    worker = Worker(job)
    try:
        config = Config(
            filter=Filter(pids=(worker.pid,)), measure_cost=measure_cost, connections=connections
        )
        with Session(config) as session:
            yield worker, session
    finally:
        worker.end()
