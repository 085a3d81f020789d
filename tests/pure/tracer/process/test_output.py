# SPDX-License-Identifier: MIT
"""The output of a command is passed on in whole lines, even if it arrives in pieces."""

import os
import queue

import pytest

from tracer.process.output import Relay

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


def test_a_relay_that_was_never_started_leaves_no_descriptor() -> None:
    with Relay() as relay:
        end = relay.write_end
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(end)
