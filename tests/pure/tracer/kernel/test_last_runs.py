# SPDX-License-Identifier: MIT
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.kernel.last_runs import LastRuns

_SLACK_SECONDS = 0.05


@pytest.fixture
def sleeper() -> Iterator[Path]:
    """The /proc directory of a process that sleeps."""
    with subprocess.Popen(["sleep", "600"]) as child:
        task = Path(f"/proc/{child.pid}")
        while (task / "stat").read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.01)
        yield task
        child.kill()


def test_the_time_since_the_thread_slept(sleeper: Path) -> None:
    asleep_by = time.monotonic()
    time.sleep(0.5)
    before = time.monotonic() - asleep_by
    ago = LastRuns().seconds_ago(sleeper)
    assert ago is not None
    assert ago > before - _SLACK_SECONDS


def test_a_thread_that_runs_again(sleeper: Path) -> None:
    time.sleep(0.5)
    woken = time.monotonic()
    for wake in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(int(sleeper.name), wake)
    time.sleep(0.1)
    ago = LastRuns().seconds_ago(sleeper)
    assert ago is not None
    assert ago < time.monotonic() - woken + _SLACK_SECONDS


def test_the_affinity_stays() -> None:
    before = os.sched_getaffinity(0)
    LastRuns()
    assert os.sched_getaffinity(0) == before


def test_a_thread_that_has_ended() -> None:
    with pytest.raises(FileNotFoundError):
        LastRuns().seconds_ago(Path("/proc/0"))
