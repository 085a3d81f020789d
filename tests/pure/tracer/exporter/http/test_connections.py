# SPDX-License-Identifier: MIT
"""Which connection makes way for a new one."""

import socket
from collections.abc import Iterator

import pytest

from tracer.exporter.http import connections
from tracer.exporter.http.connections import Connection, Connections, Step, client_of
from tracer.exporter.http.refusals import Refusals

LIMIT = 8


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PATIENCE_SECONDS", 0.05)


class Room:
    """Connections of a made-up age, whose sockets have a peer."""

    def __init__(self) -> None:
        self.refusals = Refusals()
        self.all = Connections(LIMIT, self.refusals)
        self.sockets: list[socket.socket] = []

    def new(self, address: str, step: Step = Step.REQUEST, age: float = 10.0) -> Connection:
        mine, other = socket.socketpair()
        self.sockets += [mine, other]
        connection = Connection(mine, address, 60)
        connection.step = step
        connection.begun -= age
        connection.since -= age
        return connection

    def admitted(self, address: str, step: Step = Step.REQUEST, age: float = 10.0) -> Connection:
        connection = self.new(address, step, age)
        assert self.all.admit(connection)
        return connection


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    for one in room.sockets:
        one.close()


def shut(all_of_them: list[Connection]) -> list[int]:
    return [index for index, one in enumerate(all_of_them) if one.is_shut]


def test_below_the_limit_none_makes_way(room: Room) -> None:
    assert shut([room.admitted(f"10.0.0.{i}") for i in range(LIMIT)]) == []


def test_an_address_with_three_quarters_loses_its_own(room: Room) -> None:
    others = [room.admitted("10.0.0.2", age=99)]
    own = [room.admitted("10.0.0.1", age=50 - i) for i in range(LIMIT * 3 // 4)]
    room.admitted("10.0.0.1")
    assert shut(own) == [0]
    assert shut(others) == []


def test_when_all_is_full_the_address_with_the_most_loses_one(room: Room) -> None:
    few = [room.admitted("10.0.0.2", age=99) for _ in range(3)]
    many = [room.admitted("10.0.0.1") for _ in range(5)]
    room.admitted("10.0.0.3")
    assert shut(few) == []
    assert len(shut(many)) == 1
    assert room.refusals.counts["room"] == 1


@pytest.mark.parametrize(
    ("steps", "first"),
    [
        ([(Step.IDLE, 80.0), (Step.REQUEST, 3.0), (Step.ANSWER, 5.0)], 2),
        ([(Step.IDLE, 80.0), (Step.IDLE, 90.0), (Step.REQUEST, 0.5)], 1),
        ([(Step.REQUEST, 0.5), (Step.ANSWER, 0.7), (Step.WORK, 9.0)], 1),
    ],
)
def test_slow_ones_go_first_then_idle_ones_then_the_oldest(
    room: Room, steps: list[tuple[Step, float]], first: int
) -> None:
    held = [room.admitted("10.0.0.1", step, age) for step, age in steps]
    held += [room.admitted("10.0.0.1", Step.WORK) for _ in range(3)]
    room.admitted("10.0.0.1")
    assert shut(held) == [first]


@pytest.mark.parametrize(("step", "age"), [(Step.WORK, 10.0), (Step.REQUEST, -10.0)])
def test_none_makes_way_while_it_is_answered_or_new(room: Room, step: Step, age: float) -> None:
    held = [room.admitted(f"10.0.0.{i}", step, age) for i in range(LIMIT)]
    assert not room.all.admit(room.new("10.0.1.1"))
    assert shut(held) == []


def test_connections_that_are_being_closed_are_limited_too(room: Room) -> None:
    for i in range(LIMIT):
        room.admitted(f"10.0.0.{i}", age=20)
    assert room.all.admit(room.new("10.0.1.1"))
    assert room.all.admit(room.new("10.0.1.2"))
    # Two have made way and are not yet closed by their threads.
    waiting = room.new("10.0.1.3")
    assert not room.all.admit(waiting)
    room.all.close(next(iter(room.all._closing)))
    assert room.all.admit(waiting)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:0:0:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_addresses_of_one_network_of_ipv6_count_as_one(address: str, client: str) -> None:
    assert client_of(address) == client
