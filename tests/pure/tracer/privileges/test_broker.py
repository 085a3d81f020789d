# SPDX-License-Identifier: MIT
"""Requests over a socket pair: what is answered, and what cuts the worker off."""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.privileges.broker import Answerer, requests_over
from tracer.privileges.requests import Requests


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(20)
        yield ours, theirs


@pytest.fixture
def asked(pair: tuple[socket.socket, socket.socket]) -> Iterator[Requests]:
    """Requests that another thread answers."""
    ours, theirs = pair
    answerer = Answerer(ours, Requests({}, None))

    def answer() -> None:
        while answerer.answer_one():
            pass

    thread = threading.Thread(target=answer)
    thread.start()
    yield requests_over(theirs)
    theirs.close()
    thread.join()


def message(text: bytes) -> bytes:
    return struct.pack("=I", len(text)) + text


def is_answered(text: bytes) -> bool:
    """Whether a worker that sends these bytes and no more gets an answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(text)
        theirs.shutdown(socket.SHUT_WR)
        return Answerer(ours, Requests({}, None)).answer_one()


def test_a_request_is_answered(asked: Requests) -> None:
    name = asked.thread_name(os.getpid(), os.getpid())
    with open("/proc/self/comm") as comm:
        assert name + "\n" == comm.read()


def test_an_error_of_the_system_keeps_its_errno(asked: Requests) -> None:
    with pytest.raises(FileNotFoundError):
        asked.thread_name(os.getpid(), 1 << 22)


@pytest.mark.parametrize("pid", [0, -1, (1 << 22) + 1])
def test_a_value_that_is_no_process_id_is_refused(asked: Requests, pid: int) -> None:
    with pytest.raises(RuntimeError, match="is no process or thread id"):
        asked.thread_name(pid, 1)


def test_only_requests_on_the_list_can_be_sent(asked: Requests) -> None:
    with pytest.raises(AttributeError):
        asked.no_such_request()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "request_",
    [
        ["no_such_request"],
        ["__init__", {}, None],
        ["_follow"],
        ["is_worker_ready"],
        ["thread_name"],
        ["thread_name", 1],
        ["thread_name", 1, "1"],
        ["thread_name", 1, True],
        ["thread_name", 1, 1.0],
        ["ready", 1],
        [],
        "ready",
        [["ready"]],
        {"ready": 1},
        None,
    ],
)
def test_what_is_not_on_the_list_cuts_the_worker_off(request_: object) -> None:
    assert is_answered(message(b'["ready"]'))
    assert not is_answered(message(json.dumps(request_).encode()))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\1",
        message(b'["ready"]')[:-1],
        struct.pack("=I", 4097) + b" " * 4097,
        message(b"[" * 4000),
        message(b"\xff"),
    ],
)
def test_bytes_that_are_no_request_cut_the_worker_off(sent: bytes) -> None:
    assert not is_answered(sent)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(sent: bytes) -> None:
    assert is_answered(message(sent)) == (sent.strip() == b'["ready"]')


def test_a_worker_whose_broker_has_ended_gets_an_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    asked = requests_over(theirs)
    ours.close()
    with pytest.raises(OSError, match=r"ended|Broken pipe"):
        asked.ready()
