# SPDX-License-Identifier: MIT
"""Signals as events: none is lost, and none is reported that was not sent."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tracer.process.signals import Signals

TIMEOUT_SECONDS = 20

# Waits as often as the first argument says and prints what arrived.
WAITER = """
import sys
from tracer.process.signals import Signals
with Signals() as signals:
    print("ready", flush=True)
    for line in sys.stdin:
        print(signals.wait(float(line)), flush=True)
"""


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for_state(pid: int, states: str) -> None:
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while state_of(pid) not in states:
        assert time.monotonic() < give_up, f"{pid} is {state_of(pid)}, not {states}"
        time.sleep(0.005)


def test_signals_are_fetched_not_handled() -> None:
    # Send it to this thread: the threads that pytest made do not hold signals back.
    with Signals() as signals:
        assert signals.wait(0) is None
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        arrived = signals.wait(TIMEOUT_SECONDS)
        assert arrived is not None
        assert (arrived.number, arrived.to_group) == (signal.SIGINT, False)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    # The rest is thrown away at the end: this process still lives.
    assert signal.sigpending() == set()


def test_a_signal_ignored_from_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
            assert signals.wait(0) is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 1e-6])
def test_a_wait_that_is_over_at_once(seconds: float) -> None:
    with Signals() as signals:
        assert signals.wait(seconds) is None


def test_a_wait_of_years_is_possible() -> None:
    with Signals() as signals:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        arrived = signals.wait(1e9)
    assert arrived is not None
    assert arrived.number == signal.SIGTERM


def test_no_descriptor_stays_open() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    with Signals() as signals:
        signals.wait(0)
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_process_stopped_past_the_end_of_its_wait_sees_no_signal() -> None:
    """SIGSTOP and SIGCONT while it waits, as Ctrl-Z and fg, or a frozen container, do."""
    with subprocess.Popen(
        [sys.executable, "-c", WAITER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            for _ in range(5):
                process.stdin.write("0.2\n")
                wait_for_state(process.pid, "S")
                process.send_signal(signal.SIGSTOP)
                wait_for_state(process.pid, "T")
                time.sleep(0.3)  # the point of the test: longer than it waits
                process.send_signal(signal.SIGCONT)
                assert process.stdout.readline() == "None\n"
            process.stdin.write("20\n")
            process.send_signal(signal.SIGTERM)
            assert "number=15" in process.stdout.readline()
        finally:
            process.kill()
