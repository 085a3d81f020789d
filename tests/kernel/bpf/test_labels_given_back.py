# SPDX-License-Identifier: MIT
"""Cells of label values that have been silent are given back, and no call is lost or counted twice.

A value is silent here once it has not changed from one snapshot to the next.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.bpf.sockets import N
from tests.kernel.bpf.test_in_flight_by_label import RECV, blocked, in_json
from tests.kernel.children import Child, wait_until_blocked
from tracer.kernel.maps import Map
from tracer.model.config import Config, Filter
from tracer.model.snapshot import GIVEN_BACK, Snapshot
from tracer.session import Session

NAME = Path("/proc/thread-self/comm")


@pytest.fixture(autouse=True)
def _own_name() -> Iterator[None]:
    name = NAME.read_text().strip()
    yield
    NAME.write_text(name)


def by_comm(values: int, silence: float = 1e-9) -> Config:
    return Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        label="comm",
        label_values=values,
        label_silence_seconds=silence,
        operations=("send", "recv"),
        mechanism="tracepoint",
    )


def send_as(name: str, number: int = N) -> None:
    NAME.write_text(name)
    one, two = socket.socketpair()
    with one, two:
        for _ in range(number):
            one.send(b"x")


def sends(snapshot: Snapshot) -> dict[str | None, int]:
    return {s.label: s.aggregate.count for s in snapshot.operations if s.name == "send"}


def entries(snapshot: Snapshot) -> dict[str, int]:
    return {use.name: use.entries for use in snapshot.maps}


def test_hundreds_of_names_have_cells_of_their_own_one_after_another() -> None:
    seen: Counter[str | None] = Counter()
    with Session(by_comm(512)) as session:
        for start in range(0, 1000, 100):
            names = [f"name-{i}" for i in range(start, start + 100)]
            for name in names:
                send_as(name)
            snapshot = session.snapshot()
            assert {name: sends(snapshot).get(name) for name in names} == dict.fromkeys(names, N)
            assert snapshot.total("send").count == (start + 100) * N
            seen.update(sends(snapshot).keys())
        assert entries(snapshot)["label_values"] <= 512
    assert snapshot.other_label == 0
    assert len(seen) == 1000 + 1
    assert sends(snapshot)[GIVEN_BACK] == (1000 - (len(sends(snapshot)) - 1)) * N


def test_nothing_is_given_back_before_it_has_been_silent_for_long_enough() -> None:
    with Session(by_comm(8, silence=600)) as session:
        for i in range(8):
            send_as(f"name-{i}")
        for _ in range(3):
            snapshot = session.snapshot()
        send_as("one more")
        after = sends(session.snapshot())
    assert sends(snapshot) == {f"name-{i}": N for i in range(8)}
    assert after == sends(snapshot) | {"other": N}


def test_nothing_is_given_back_while_there_is_room() -> None:
    with Session(by_comm(8)) as session:
        for i in range(6):
            send_as(f"name-{i}")
        for _ in range(3):
            snapshot = session.snapshot()
    assert sends(snapshot) == {f"name-{i}": N for i in range(6)}


def test_the_longest_silent_are_given_back_first_and_a_busy_one_is_kept() -> None:
    with Session(by_comm(8)) as session:
        for i in range(8):
            send_as(f"name-{i}")
            send_as("busy")
            snapshot = session.snapshot()
        named = set(sends(snapshot))
    assert {"busy", "name-6", "name-7"} <= named
    assert "name-0" not in named
    assert sends(snapshot)["busy"] == 8 * N


def test_a_value_that_comes_back_begins_at_zero() -> None:
    with Session(by_comm(2)) as session:
        send_as("first")
        send_as("second")
        for _ in range(2):
            session.snapshot()
        assert sends(session.snapshot()) == {GIVEN_BACK: N, "second": N}
        send_as("first", 1)
        assert sends(session.snapshot()) == {GIVEN_BACK: N, "second": N, "first": 1}


def test_other_does_not_fall_when_a_process_of_that_name_is_given_back() -> None:
    with Session(by_comm(2)) as session:
        send_as("other")
        send_as("second")
        send_as("third")
        for _ in range(2):
            assert sends(session.snapshot()) == {"other": 2 * N, "second": N}
        snapshot = session.snapshot()
        assert entries(snapshot)["label_values"] == 1
    assert sends(snapshot) == {"other": 2 * N, "second": N}


def test_a_call_in_flight_of_a_value_that_is_given_back_keeps_its_name() -> None:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def block() -> None:
        send_as("stuck")
        two.recv(1)

    with one, two, Session(by_comm(2)) as session, blocked(block) as stuck:
        wait_until_blocked(stuck.pid, RECV)
        send_as("second")
        for _ in range(3):
            snapshot = session.snapshot()
        assert sends(snapshot) == {GIVEN_BACK: N, "second": N}
        assert in_json(snapshot) == {"stuck": 1}
        one.send(b"x")
        assert stuck.wait() == 0
        snapshot = session.snapshot()
    assert in_json(snapshot) == {"stuck": 0}
    assert snapshot.total("recv").count == 1


def test_totals_are_exact_and_never_fall_while_values_are_given_back_under_load() -> None:
    processes, rounds, names, room = 3, 400, 12, 16

    def work(number: int) -> None:
        for i in range(rounds):
            send_as(f"{number}-{i % names}")

    totals, others = [0], [0]
    with Session(by_comm(room)) as session:
        children = [Child(lambda number=number: work(number)) for number in range(processes)]
        while any(_is_running(child.pid) for child in children):
            snapshot = session.snapshot()
            totals.append(snapshot.total("send").count)
            others.append(sends(snapshot).get("other", 0))
        assert [child.wait() for child in children] == [0] * processes
        last = session.snapshot()
    assert last.total("send").count == processes * rounds * N
    assert totals == sorted(totals)
    assert others == sorted(others)
    assert sends(last)[GIVEN_BACK] > 0, "nothing was given back: this test shows nothing"
    assert not any(last.lost.values())


def test_cells_are_read_and_deleted_after_the_programs_that_know_them_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that counts between the read and the deletion is too rare to be met by chance."""
    done: list[str] = []

    def note(name: str, change: Callable[..., object]) -> None:
        def run(self: Map, *arguments: bytes) -> object:
            done.extend(key for key, one in maps.items() if one is self and done[-1:] != [key])
            return change(self, *arguments)

        monkeypatch.setattr(Map, name, run)

    with Session(by_comm(2)) as session:
        maps = session._running().maps
        send_as("first")
        send_as("second")
        session.snapshot()
        for name in ("delete", "update"):
            note(name, getattr(Map, name))
        session.snapshot()
        session.snapshot()
    assert done == ["label_values", "grace_period", "labelled_cells"]


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
