# SPDX-License-Identifier: MIT
"""One address cannot use up what a server has, and clients that send nothing make way."""

import logging
from collections.abc import Callable

import pytest

from lunatik_socket.servers.limits import AddressUse, Limits, RareWarning, is_loopback

FOREIGN, LOOPBACK = "192.0.2.1", "127.0.0.1"


class Client:
    """A client of one address in these limits."""

    def __init__(self, limits: "Limits[Client]", address: str) -> None:
        self.limits = limits
        use = limits.enter(address)
        assert use is not None
        self.use: AddressUse[Client] = use
        self.has_made_way = False

    def make_way(self) -> None:
        self.has_made_way = True
        self.use.requests -= 1
        self.limits.leave(self, self.use)


def _enter(limits: "Limits[Client]", address: str, count: int) -> list[Client]:
    return [Client(limits, address) for _ in range(count)]


def _waiting(limits: "Limits[Client]", address: str, now: float) -> Client:
    client = Client(limits, address)
    client.use.requests += 1
    limits.wait(client, client.use, now)
    return client


def test_an_address_may_have_a_quarter_of_all_clients() -> None:
    limits: Limits[Client] = Limits(100, None)
    _enter(limits, FOREIGN, 25)
    assert limits.enter(FOREIGN) is None
    _enter(limits, "192.0.2.2", 25)


def test_clients_on_loopback_have_no_limit_of_their_own() -> None:
    limits: Limits[Client] = Limits(100, None)
    _enter(limits, LOOPBACK, 100)


def test_a_given_limit_holds_on_loopback_too() -> None:
    limits: Limits[Client] = Limits(100, 3)
    _enter(limits, LOOPBACK, 3)
    assert limits.enter(LOOPBACK) is None


def test_a_client_that_left_leaves_room() -> None:
    limits: Limits[Client] = Limits(100, 1)
    client = Client(limits, FOREIGN)
    limits.leave(client, client.use)
    assert limits._used == {}
    Client(limits, FOREIGN)


def test_a_server_for_one_client_admits_one() -> None:
    limits: Limits[Client] = Limits(1, None)
    Client(limits, FOREIGN)


def test_the_oldest_waiting_client_of_the_address_makes_way_for_a_request() -> None:
    limits: Limits[Client] = Limits(100, None, 2)
    other = _waiting(limits, "192.0.2.2", now=0)
    first, second, third = (_waiting(limits, FOREIGN, now=now) for now in (1, 2, 3))
    assert limits.make_room_at(third.use)
    assert [c.has_made_way for c in (other, first, second, third)] == [False, True, False, False]


@pytest.mark.parametrize(
    ("address", "server_clients", "has_room"), [(FOREIGN, 16, False), (LOOPBACK, 16, True)]
)
def test_requests_under_way_that_wait_for_nothing_are_limited(
    address: str, server_clients: int, has_room: bool
) -> None:
    limits: Limits[Client] = Limits(server_clients, None)
    client = Client(limits, address)
    client.use.requests = 3  # an eighth is two
    assert limits.make_room_at(client.use) == has_room


def test_the_oldest_waiting_client_of_all_makes_way_after_a_second() -> None:
    limits: Limits[Client] = Limits(100, None)
    assert limits.make_room(now=5.0) == float("inf")
    first, second = _waiting(limits, FOREIGN, now=5.0), _waiting(limits, "192.0.2.2", now=5.5)
    assert limits.make_room(now=5.9) == 6.0
    assert limits.make_room(now=6.0) == 0.0
    assert (first.has_made_way, second.has_made_way) == (True, False)
    assert limits.make_room(now=6.0) == 6.5


def test_a_client_that_has_sent_its_request_does_not_make_way() -> None:
    limits: Limits[Client] = Limits(100, None)
    client = _waiting(limits, FOREIGN, now=0.0)
    limits.stop_waiting(client, client.use)
    assert limits.make_room(now=9.0) == float("inf")


def test_waiting_again_does_not_make_a_client_younger() -> None:
    limits: Limits[Client] = Limits(100, None)
    first, second = _waiting(limits, FOREIGN, now=0.0), _waiting(limits, FOREIGN, now=0.5)
    limits.wait(first, first.use, 2.0)
    assert limits.make_room(now=2.0) == 0.0
    assert (first.has_made_way, second.has_made_way) == (True, False)


def test_a_rare_warning_is_logged_once_a_minute_with_a_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [100.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    warn = RareWarning(logging.getLogger("rare"), clock)
    for moment in (100.0, 101.0, 159.9, 160.0, 161.0):
        now[0] = moment
        warn(f"at {moment}")
    assert caplog.messages == ["at 100.0", "at 160.0 (2 more since the last such line)"]


def test_all_of_127_is_loopback() -> None:
    assert is_loopback("127.255.0.9")
    assert not is_loopback("12.7.0.1")
