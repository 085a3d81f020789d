# SPDX-License-Identifier: MIT
"""How long ago a sleeping thread last ran, from /proc/TID/sched.

Its se.exec_start is the time when the thread was last on a CPU, by the scheduler's clock of that
CPU. That clock stands still while interrupts and other virtual machines have the CPU, so each CPU
has one of its own. A thread of ours that runs there reads it.
"""

import contextlib
import os
import re
import time
from pathlib import Path

__all__ = ["LastRuns"]

_EXEC_START = re.compile(r"^se\.exec_start\s*:\s*([0-9.]+)$", re.MULTILINE)
_CPU = 36  # the place of `processor` among the fields of /proc/TID/stat that follow the name


class LastRuns:
    """The clocks of the CPUs, read once."""

    def __init__(self) -> None:
        self._clocks: dict[int, tuple[float, float]] = {}
        allowed = os.sched_getaffinity(0)
        try:
            for cpu in allowed:
                with contextlib.suppress(OSError):  # it went offline
                    os.sched_setaffinity(0, {cpu})
                    started = _exec_start(Path("/proc/thread-self"))
                    if started is not None:
                        self._clocks[cpu] = started, time.monotonic()
        finally:
            os.sched_setaffinity(0, allowed)

    def seconds_ago(self, task: Path) -> float | None:
        """How long ago the thread of this /proc directory last ran, to about 10 ms.

        None if the kernel does not tell (CONFIG_SCHED_DEBUG is off). Raises OSError if the thread
        has ended.
        """
        started = _exec_start(task)
        if started is None or not self._clocks:
            return None
        cpu = int((task / "stat").read_text().rpartition(")")[2].split()[_CPU])
        # A CPU that we may not use has a clock that differs little from another's.
        then, read_at = self._clocks.get(cpu) or next(iter(self._clocks.values()))
        return max(0.0, then - started + time.monotonic() - read_at)


def _exec_start(task: Path) -> float | None:
    """In seconds."""
    try:
        found = _EXEC_START.search((task / "sched").read_text())
    except FileNotFoundError:
        if task.exists():
            return None
        raise
    return float(found[1]) / 1000 if found else None
