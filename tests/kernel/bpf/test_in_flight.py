# SPDX-License-Identifier: MIT
"""The two ways to find the call that a thread is in (bpf/in_flight.h) give the same numbers."""

import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.kernel.children import Child, wait_until, wait_until_blocked
from tracer.kernel.architecture import architecture
from tracer.model.config import Config, Filter
from tracer.model.snapshot import Snapshot, difference
from tracer.session import Session

N = 23
THREADS = 41
RECV = architecture().numbers["recvfrom"]


@pytest.fixture
def both() -> Iterator[tuple[Session, Session]]:
    """Two sessions that trace this process and its children at the same time."""
    own = Filter(pids=(os.getpid(),), follow_forks=True)
    by_stack = Config(filter=own, mechanism="tracepoint", label="pid")
    with Session(by_stack) as one, Session(replace(by_stack, in_flight="hash")) as two:
        # The two sessions do differ: the hash leaves the array of slots unused.
        assert [each._running().maps["calls"].capacity for each in (one, two)] == [8192, 1]
        yield one, two


def moves(old: Snapshot, new: Snapshot) -> dict[str, object]:
    """The change of all numbers except durations, because each session measures its own."""
    snapshot = difference(old, new)
    cells: Counter[tuple[object, ...]] = Counter()
    for series in snapshot.operations:
        key = (series.name, series.transport, series.label)
        cells[*key, "calls"] += series.aggregate.count
        cells[*key, "bytes"] += series.aggregate.bytes
        for name, number in series.aggregate.errors.items():
            cells[*key, name] += number
    probes: Counter[tuple[str, str]] = Counter()
    for probe in new.probes:
        probes[probe.name, "entries"] += probe.entries
        probes[probe.name, "returns"] += probe.returns
    for probe in old.probes:
        probes[probe.name, "entries"] -= probe.entries
        probes[probe.name, "returns"] -= probe.returns
    return {
        "cells": +cells,
        "probes": probes,
        "in flight": dict(snapshot.in_progress()),
        "lost": snapshot.lost,
    }


def exchange() -> None:
    """N messages each way, and N receives of nothing."""
    near, far = socket.socketpair()
    with near, far:
        for i in range(N):
            near.send(b"x" * i)
            far.sendmsg([b"y", b"z"])
            near.recv(2)
            with pytest.raises(BlockingIOError):
                near.recv(1, socket.MSG_DONTWAIT)
    with open(os.devnull, "rb") as file:
        for _ in range(N):
            file.read(1)


@contextmanager
def blocked_threads(number: int) -> Iterator[set[int]]:
    """Threads that wait in recv until the block is left."""
    pairs = [socket.socketpair() for _ in range(number)]
    threads = [threading.Thread(target=near.recv, args=(1,)) for near, _ in pairs]
    for thread in threads:
        thread.start()
        assert thread.native_id is not None
        wait_until_blocked(thread.native_id, RECV)
    try:
        yield {thread.native_id or 0 for thread in threads}
    finally:
        for (near, far), thread in zip(pairs, threads, strict=True):
            far.send(b".")
            thread.join()
            near.close()
            far.close()


def threads_come_and_go() -> None:
    threads = [threading.Thread(target=exchange) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def execute_in_a_thread() -> None:
    """The thread that executes the program takes over the id of the first thread."""
    work = f"import socket; a, b = socket.socketpair(); [a.send(b'x') for _ in range({N})]"
    arguments = [sys.executable, "-S", "-c", work]
    thread = threading.Thread(target=lambda: (exchange(), os.execv(sys.executable, arguments)))
    thread.start()
    thread.join()


def test_both_ways_count_the_same(both: tuple[Session, Session]) -> None:
    with blocked_threads(3):
        before = [session.snapshot() for session in both]
        threads_come_and_go()
        children = [Child(threads_come_and_go) for _ in range(3)]
        children += [Child(execute_in_a_thread) for _ in range(3)]
        assert [child.wait() for child in children] == [0] * len(children)
        with blocked_threads(5):
            inside = [session.snapshot() for session in both]
    after = [session.snapshot() for session in both]

    for first, second in (before, inside), (inside, after):
        by_stack, by_hash = (moves(*pair) for pair in zip(first, second, strict=True))
        assert by_stack == by_hash
    assert [snapshot.in_progress()["recv", "user"] for snapshot in inside] == [8, 8]
    assert [snapshot.in_progress().get(("recv", "user"), 0) for snapshot in after] == [0, 0]
    moved = difference(before[0], after[0])
    # Each thread that came and went, here and in three children, and one in the other three.
    assert moved.total("sendmsg").count == N * (4 * THREADS + 3)
    assert not any(moved.lost.values())


def test_both_ways_free_the_entries_of_threads_that_ended(both: tuple[Session, Session]) -> None:
    """Calls in flight can also be read from the same maps and fields in both."""

    def entries() -> list[int]:
        return [
            entry.entries
            for session in both
            for entry in session.snapshot().maps
            if entry.name == "threads"
        ]

    exchange()
    before = entries()
    for _ in range(3):
        threads_come_and_go()
        assert Child(threads_come_and_go).wait() == 0
    wait_until(lambda: entries() == before, "the entries of the ended threads to go")


def test_a_call_that_was_blocked_before_tracing_is_listed_in_both_ways() -> None:
    config = Config(filter=Filter(pids=(os.getpid(),)), mechanism="tracepoint")
    with blocked_threads(3) as tids:
        sessions = [Session(config), Session(replace(config, in_flight="hash"))]
        for session in sessions:
            session.start()
    snapshots = [session.snapshot() for session in sessions]
    for session in sessions:
        session.stop()
    for snapshot in snapshots:
        assert not any(snapshot.lost.values())
        assert {call.tid for call in snapshot.in_flight_at_start} == tids
        assert {call.operation for call in snapshot.in_flight_at_start} == {"recv"}
