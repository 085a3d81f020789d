# SPDX-License-Identifier: MIT
"""A process of known deeds, traced alone: what the exporter shows is what it was told to do."""

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
    """A child that does one round of the workload each time it is told to.

    Orders and answers go through pipes, which are no sockets: all that is counted of it is the
    workload.
    """

    def __init__(self, deed: Callable[[], object]) -> None:
        self._orders, self._order = os.pipe()
        self._answer, self._answers = os.pipe()
        self._child = Child(lambda: self._serve(deed))
        self.pid = self._child.pid
        os.close(self._orders)
        os.close(self._answers)

    def work(self) -> None:
        """One round; returns when it is done."""
        os.write(self._order, b"w")
        ready, _, _ = select.select([self._answer], [], [], TIMEOUT_SECONDS)
        assert ready, "the worker does not answer"
        assert os.read(self._answer, 1) == b"d"

    def end(self) -> None:
        """Let it go; it must have done well."""
        os.close(self._order)
        os.close(self._answer)
        assert self._child.wait() == 0

    def _serve(self, deed: Callable[[], object]) -> None:
        os.close(self._order)
        while os.read(self._orders, 1):
            deed()
            os.write(self._answers, b"d")


def exchange() -> None:
    """One TCP connection, CALLS messages on it, and CALLS connections refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        peer, _ = listener.accept()
        with peer:
            for _ in range(CALLS):
                client.send(b"x" * BYTES)
                assert len(peer.recv(100)) == BYTES
    # Bound and not listening: refuses, and nobody else can get the port meanwhile.
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        for _ in range(CALLS):
            with socket.socket() as client:
                assert client.connect_ex(nobody.getsockname()) == errno.ECONNREFUSED


class Round:
    """Rounds of work in the background, for what has to be seen moving."""

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
    deed: Callable[[], object] = exchange, *, measure_cost: bool = False
) -> Iterator[tuple[Worker, Session]]:
    """A worker and a session that traces it alone."""
    worker = Worker(deed)
    try:
        config = Config(filter=Filter(pids=(worker.pid,)), measure_cost=measure_cost)
        with Session(config) as session:
            yield worker, session
    finally:
        worker.end()
