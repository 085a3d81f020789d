# SPDX-License-Identifier: MIT
"""The output of a command is passed on in whole lines, even if it arrives in pieces."""

import os
import queue

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.process.output import Relay, _Lines

TIMEOUT_SECONDS = 20


def test_lines_are_passed_on_whole_and_the_rest_at_the_end() -> None:
    said: queue.Queue[str] = queue.Queue()
    with Relay() as relay:
        writer = os.dup(relay.write_end)
        relay.close_write_end()
        os.write(writer, b"one\ntwo\nthr")
        relay.start(said.put)
        assert said.get(timeout=TIMEOUT_SECONDS) == "one\ntwo"
        os.write(writer, b"ee\nfour \xff")
        assert said.get(timeout=TIMEOUT_SECONDS) == "three"
        os.close(writer)
        assert said.get(timeout=TIMEOUT_SECONDS) == "four \ufffd"
        relay.finish()
    assert said.empty()


CUT = " [cut: the line is longer than 16384 bytes]"


def test_an_endless_line_is_cut_at_once_and_the_next_line_is_whole() -> None:
    said: queue.Queue[str] = queue.Queue()
    with Relay() as relay:
        writer = os.dup(relay.write_end)
        relay.close_write_end()
        relay.start(said.put)
        os.write(writer, b"x" * 16385)  # less than a pipe takes at once
        assert said.get(timeout=TIMEOUT_SECONDS) == "x" * 16384 + CUT
        for _ in range(100):
            os.write(writer, b"x" * 60_000)
        os.write(writer, b"end\nnext\n\n")
        assert said.get(timeout=TIMEOUT_SECONDS) == "next\n"
        os.close(writer)
        relay.finish()
    assert said.empty()


def _lines_of(chunks: list[bytes]) -> list[bytes]:
    pending = _Lines()
    lines = [line for chunk in chunks for line in pending.add(chunk)]
    assert len(pending.rest) <= 16384
    return [*lines, pending.rest] if pending.rest else lines


@given(st.lists(st.tuples(st.binary(max_size=5), st.sampled_from([1, 4000, 16_000, 20_000]))))
def test_lines_are_the_same_however_the_output_is_cut_into_chunks(
    parts: list[tuple[bytes, int]],
) -> None:
    chunks = [part * times for part, times in parts if part]
    assert _lines_of(chunks) == _lines_of([b"".join(chunks)])


def test_a_line_of_the_most_bytes_is_not_cut() -> None:
    line = b"x" * 16384
    assert _lines_of([line + b"\n" + line + b"\n"]) == [line, line]


def test_a_relay_that_was_never_started_leaves_no_descriptor() -> None:
    with Relay() as relay:
        end = relay.write_end
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(end)
