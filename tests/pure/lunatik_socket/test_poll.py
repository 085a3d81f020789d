# SPDX-License-Identifier: MIT
"""`poll` and `select`, and their additions for servers."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
import weakref
from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lunatik_socket import Poll, Socket, new, poll
from tests.pure.lunatik_socket.connections import listening, tcp_pair, udp_pair

LONG_MS = 10_000


def test_select_returns_the_index_from_0_and_the_socket() -> None:
    with tcp_pair() as (one, other), poll([one, other]) as members:
        one.send(b"x")
        assert members.select() == (1, other)
        other.recv(1)
        other.send(b"x")
        assert members.select(LONG_MS) == (0, one)


def test_poll_takes_any_iterable_of_sockets() -> None:
    with udp_pair() as pair:
        assert len(poll(pair)) == len(poll(set(pair))) == len(poll(iter(pair))) == 2


@pytest.mark.parametrize("timeout_ms", [0, 1, 0.5, 20])
def test_select_returns_none_after_its_time_out(timeout_ms: float) -> None:
    with tcp_pair() as (one, _), poll([one]) as members:
        start = time.monotonic()
        assert members.select(timeout_ms) is None
        assert time.monotonic() - start >= timeout_ms / 1000


def test_select_blocks_until_another_thread_sends() -> None:
    with tcp_pair() as (one, other), poll([other]) as members:
        found: list[Any] = []
        waiting = threading.Thread(target=lambda: found.append(members.select()))
        waiting.start()
        one.send(b"x")
        waiting.join(10)
        assert found == [(0, other)]


def test_the_end_of_a_stream_can_be_read() -> None:
    with tcp_pair() as (one, other), poll([one]) as members:
        other.close()
        assert members.select(LONG_MS) == (0, one)
        assert one.recv(1) == (b"", 0)


def test_a_connection_to_accept_can_be_read() -> None:
    with listening() as (listener, ip, port), poll([listener]) as members, new() as client:
        assert members.select(0) is None
        client.connect(ip, port)
        assert members.select(LONG_MS) == (0, listener)
        listener.accept().close()


def test_a_member_with_an_error_can_be_read() -> None:
    with tcp_pair() as (one, other), poll([one]) as members:
        other.setsockopt("s", "l", (1, 0))
        other.close()
        assert members.select(LONG_MS) == (0, one)
        assert one.getsockopt("s", "e") == errno.ECONNRESET


def test_a_datagram_can_be_read() -> None:
    with udp_pair() as (one, other), poll([one, other]) as members:
        one.sendmsg({"name": other.getsockname()}, b"x")
        assert members.select(LONG_MS) == (1, other)


@given(st.integers(2, 8), st.data())
@settings(max_examples=25)
def test_all_that_are_ready_take_turns(count: int, draw: st.DataObject) -> None:
    ready = draw.draw(st.sets(st.integers(0, count - 1), min_size=1))
    with ExitStack() as stack:
        pairs = [stack.enter_context(tcp_pair()) for _ in range(count)]
        members = stack.enter_context(poll([mine for mine, _ in pairs]))
        for index in ready:
            pairs[index][1].send(b"never received, so always ready")
            assert poll([pairs[index][0]]).select(LONG_MS)
        rounds = 3
        seen = [members.select(LONG_MS) for _ in range(rounds * len(ready))]
        assert Counter(found[0] for found in seen if found) == dict.fromkeys(ready, rounds)
        for start in range(0, len(seen), len(ready)):
            assert len({found[0] for found in seen[start : start + len(ready)] if found}) == len(
                ready
            )


# --------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize("nothing", [[], (), set()])
def test_an_empty_table_is_refused(nothing: Any) -> None:
    with pytest.raises(ValueError, match=r"^sockets can not be empty$"):
        poll(nothing)


@pytest.mark.parametrize("member", [None, 3, "x"])
def test_a_member_that_is_not_a_socket_is_refused(member: Any) -> None:
    message = f"^a poll takes sockets of lunatik_socket, not {type(member).__name__}$"
    with new() as sock:
        with pytest.raises(TypeError, match=message):
            poll([sock, member])
        for call in (Poll().add, Poll().remove, lambda it: Poll().modify(it, "r")):
            with pytest.raises(TypeError, match=message):
                call(member)


def test_a_member_given_twice_is_refused() -> None:
    with new() as sock:
        with pytest.raises(ValueError, match=r"^sockets must not hold a socket twice$"):
            poll([sock, sock])
        with poll([sock]) as members, pytest.raises(ValueError, match=r"> is in the poll already$"):
            members.add(sock)


@pytest.mark.parametrize("timeout_ms", [-1, -0.1, float("nan")])
def test_a_negative_time_out_is_refused(timeout_ms: float) -> None:
    with new() as sock, pytest.raises(ValueError, match=r"^timeout_ms must be 0 or more, not "):
        poll([sock]).select(timeout_ms)


def test_a_time_out_of_another_type_is_refused() -> None:
    with new() as sock, pytest.raises(TypeError, match=r"^timeout_ms must be a number, not str$"):
        poll([sock]).select("1")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout_ms", [float("inf"), 1 << 40])
def test_a_time_out_above_the_kernel_s_maximum_is_refused(timeout_ms: float) -> None:
    with new() as sock, pytest.raises(ValueError, match=r"^timeout_ms must be below 2\^31, not "):
        poll([sock]).select(timeout_ms)


# --------------------------------------------------------------- closed members


def is_ebadf(error: OSError, sock: Socket) -> bool:
    cause = "Bad file descriptor (EBADF); the socket is closed"
    return (
        error.errno == errno.EBADF and error.strerror == f'cannot poll "{sock._shown()}": {cause}'
    )


def test_a_closed_member_is_ebadf_until_it_is_removed() -> None:
    with tcp_pair() as (one, other), poll([one, other]) as members:
        other.send(b"x")
        other.close()
        for _ in range(2):
            with pytest.raises(OSError, match=r"EBADF") as caught:
                members.select(0)
            assert is_ebadf(caught.value, other)
            with pytest.raises(OSError, match=r"EBADF") as caught:
                members.wait(0)
            assert is_ebadf(caught.value, other)
        members.remove(other)
        assert members.select(LONG_MS) == (0, one)


def test_a_socket_closed_before_is_ebadf() -> None:
    sock = new()
    sock.close()
    for call in (poll, lambda socks: Poll().add(socks[0])):
        with pytest.raises(OSError, match=r"EBADF") as caught:
            call([sock])
        assert is_ebadf(caught.value, sock)


def test_each_poll_of_a_closed_member_raises_ebadf() -> None:
    with new("i", "u") as one:
        polls = [poll([one]), poll([one])]
        one.close()
        for members in polls:
            with pytest.raises(OSError, match=r"EBADF"):
                members.select(0)


def test_a_closed_member_that_is_open_elsewhere_is_ebadf_too() -> None:
    # epoll watches the open file, which a forked child may keep open after this process closed it.
    with udp_pair() as (one, other), poll([one, other]) as members:
        ip, port = one.getsockname()
        copy = os.dup(one.fileno())
        try:
            other.sendmsg({"name": (ip, port)}, b"x")
            one.close()
            members.remove(one)
            with pytest.raises(OSError, match=r"closed here but open in another process") as caught:
                members.select(LONG_MS)
            assert caught.value.errno == errno.EBADF
            assert members.wait(0) == []
        finally:
            os.close(copy)
        assert members.select(0) is None


def test_a_poll_keeps_its_members_and_a_socket_does_not_keep_its_polls() -> None:
    sock = new()
    members = poll([sock])
    alive = weakref.ref(members)
    del members
    assert alive() is None
    members = poll([sock])
    kept = weakref.ref(sock)
    del sock
    gc.collect()
    assert kept() is not None
    del members
    assert kept() is None


# --------------------------------------------------------------- for servers


def test_wait_returns_all_ready_members_at_once() -> None:
    with tcp_pair() as (one, other), poll([one, other]) as members:
        assert members.wait(0) == []
        one.send(b"x")
        other.send(b"x")
        for sock in (one, other):
            poll([sock]).select(LONG_MS)
        assert sorted(members.wait(), key=lambda event: event[0] is other) == [
            (one, True, False),
            (other, True, False),
        ]
        assert len(members.wait(LONG_MS, 1)) == 1


def test_interest_in_writing() -> None:
    with tcp_pair() as (one, other), Poll() as members:
        assert members.add(one, "w") == 0
        assert members.wait(LONG_MS) == [(one, False, True)]
        members.modify(one, "r")
        assert members.wait(0) == []
        other.send(b"x")
        assert members.wait(LONG_MS) == [(one, True, False)]
        members.modify(one, "rw")
        assert members.wait(LONG_MS) == [(one, True, True)]
        members.modify(one, "")
        assert members.wait(0) == []


def test_the_end_of_both_directions_is_always_reported() -> None:
    with tcp_pair() as (one, other), Poll() as members:
        members.add(one, "")
        other.setsockopt("s", "l", (1, 0))
        other.close()
        assert members.wait(LONG_MS) == [(one, True, True)]


def test_a_connection_in_progress_can_be_written_when_it_is_established() -> None:
    with listening() as (_, ip, port), new() as sock, Poll() as members:
        with pytest.raises(BlockingIOError):
            sock.connect(ip, port, "D")
        members.add(sock, "w")
        assert members.wait(LONG_MS) == [(sock, False, True)]
        assert sock.getsockopt("s", "e") == 0


def test_indexes_are_kept_and_those_of_removed_members_are_used_again() -> None:
    with ExitStack() as stack:
        a, b, c, d = (stack.enter_context(new("i", "u")) for _ in range(4))
        members = poll([a, b, c])
        for sock in (a, b, c, d):
            sock.bind("127.0.0.1", 0)
        members.remove(b)
        assert len(members) == 2
        d.sendmsg({"name": c.getsockname()}, b"x")
        assert members.select(LONG_MS) == (2, c)
        assert members.add(d) == 1
        assert members.add(b) == 3


def test_a_removed_member_is_not_waited_for_and_may_be_closed() -> None:
    with tcp_pair() as (one, other), poll([one, other]) as members:
        other.send(b"x")
        members.remove(one)
        assert members.select(0) is None
        one.close()
        assert members.select(LONG_MS) == (0 + 1, other)
        with pytest.raises(OSError, match=r"EBADF"):
            members.remove(one)


def test_a_descriptor_used_again_is_another_member() -> None:
    with udp_pair() as (one, other), poll([one, other]) as members:
        number = one.fileno()
        one.close()
        with new("i", "u") as again:
            assert again.fileno() == number
            with pytest.raises(ValueError, match=r"> is not in the poll$"):
                members.remove(again)
            members.add(again)
            members.remove(one)
            again.bind("127.0.0.1", 0)
            other.sendmsg({"name": again.getsockname()}, b"x")
            assert members.select(LONG_MS) == (0, again)


def test_a_descriptor_detached_is_a_member_closed() -> None:
    with udp_pair() as (one, _), poll([one]) as members:
        number = one.detach()
        try:
            with pytest.raises(OSError, match="EBADF") as caught:
                members.select(0)
            assert is_ebadf(caught.value, one)
        finally:
            os.close(number)


def test_a_descriptor_that_was_closed_elsewhere_and_reused_is_not_a_member() -> None:
    one = new("i", "u")
    with poll([one]) as members:
        number = one.fileno()
        os.close(number)
        with new("i", "u") as again:
            assert again.fileno() == number
            with pytest.raises(ValueError, match=r"> is not in the poll$"):
                members.remove(again)
    with pytest.raises(OSError, match="EBADF"):
        one.close()


def test_a_socket_that_is_not_a_member_is_refused() -> None:
    with udp_pair() as (one, other), poll([one]) as members:
        for call in (members.remove, lambda sock: members.modify(sock, "r")):
            with pytest.raises(ValueError, match=r"> is not in the poll$"):
                call(other)


@pytest.mark.parametrize("events", ["x", "wr", None, 1])
def test_unknown_events_are_refused(events: Any) -> None:
    message = f"^invalid events {events!r}: must be "
    with new("i", "u") as sock, poll([sock]) as members, new("i", "u") as other:
        with pytest.raises(ValueError, match=message):
            members.add(other, events)
        with pytest.raises(ValueError, match=message):
            members.modify(sock, events)


def test_wait_for_no_event_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^maximum must be positive, not 0$"):
        Poll().wait(0, 0)


def test_a_closed_poll_is_refused_and_its_members_stay_open() -> None:
    with new("i", "u") as sock:
        members = poll([sock])
        members.close()
        members.close()
        with pytest.raises(ValueError, match=r"closed epoll"):
            members.select(0)
        assert sock.getsockopt("s", "t") == 2


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "close", "send"]), st.integers(0, 4))))
def test_any_history_of_a_poll_agrees_with_a_simple_model(steps: list[tuple[str, int]]) -> None:
    with ExitStack() as stack:
        sender = stack.enter_context(new("i", "u"))
        socks = [stack.enter_context(new("i", "u")) for _ in range(5)]
        names = []
        for sock in socks:
            sock.bind("127.0.0.1", 0)
            names.append(sock.getsockname())
        members = stack.enter_context(Poll())
        member: set[int] = set()
        ready: set[int] = set()
        closed: set[int] = set()
        for what, number in steps:
            if what == "add" and number not in member | closed:
                members.add(socks[number])
                member.add(number)
            elif what == "remove" and number in member:
                members.remove(socks[number])
                member.discard(number)
            elif what == "close" and number not in closed:
                socks[number].close()
                closed.add(number)
            elif what == "send" and number not in closed:
                sender.sendmsg({"name": names[number]}, b"x")
                ready.add(number)
        assert len(members) == len(member)
        if member & closed:
            with pytest.raises(OSError, match=r"EBADF"):
                members.wait(0)
            for number in member & closed:
                members.remove(socks[number])
        wanted = {socks[number] for number in member & ready - closed}
        assert {sock for sock, _, _ in members.wait(0)} == wanted
