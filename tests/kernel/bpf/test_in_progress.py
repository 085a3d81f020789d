# SPDX-License-Identifier: MIT
"""How many calls are in flight, on a machine with more to do than it has CPUs."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.kernel.children import Child
from tracer.model.config import Config, Filter
from tracer.session import Session

SNAPSHOTS = 230
CALLERS = 2  # processes of one thread, each in one call at a time


@contextmanager
def running(work: object) -> Iterator[Child]:
    """Children that never end by themselves."""
    child = Child(work)
    try:
        yield child
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()


def call() -> None:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    while True:
        one.send(b"x")
        two.recv(1)


def spin() -> None:
    while True:
        pass


def test_no_more_calls_are_in_flight_than_there_are_threads() -> None:
    with ExitStack() as stack:
        callers = [stack.enter_context(running(call)) for _ in range(CALLERS)]
        for _ in range(2 * (os.cpu_count() or 1)):
            stack.enter_context(running(spin))
        pids = tuple(caller.pid for caller in callers)
        config = Config(filter=Filter(pids=pids), mechanism="tracepoint")
        session = stack.enter_context(Session(config))
        seen = [session.snapshot() for _ in range(SNAPSHOTS)]
    for snapshot in seen:
        assert max(snapshot.in_progress().values()) <= CALLERS
        for probe in snapshot.probes:
            assert probe.entries == probe.returns + probe.abandoned + probe.in_progress
            assert probe.in_progress >= 0
