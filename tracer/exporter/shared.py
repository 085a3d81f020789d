# SPDX-License-Identifier: MIT
"""One run of an expensive function for all threads that call it at the same time."""

import time
from collections import deque
from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Shared"]

T = TypeVar("T")

FLOOD_RUNS = 20
FLOOD_SECONDS = 1.0
MAX_AGE_SECONDS = 0.1


class Shared(Generic[T]):
    """Calls `function` for many threads, one run at a time.

    `get` returns the result of a run that began after `get` was called. All threads that call
    during a run share the next run, so any number of callers at the same time costs at most two
    runs.

    Callers that come one after another could still keep it running all the time. So after
    FLOOD_RUNS runs within a second, results up to MAX_AGE_SECONDS old are shared until the flood
    ends.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._changed = Condition()
        self._begun = 0
        self._ended = 0
        self._running = False
        self._begun_at: deque[float] = deque(maxlen=FLOOD_RUNS)
        self._result: T

    def get(self) -> T:
        """Return the result of a new run; raises what `function` raises if this thread ran it."""
        if not self._must_run():
            return self._result
        done = False
        try:
            self._result = self._function()
            done = True
        finally:
            with self._changed:
                self._running = False
                if done:
                    self._ended = self._begun
                self._changed.notify_all()
        return self._result

    def _must_run(self) -> bool:
        """Wait for a run that began after now; true if this thread must run it."""
        with self._changed:
            wanted = self._begun if self._is_flooded() else self._begun + 1
            while self._running and self._ended < wanted:
                self._changed.wait()
            if self._ended >= wanted:
                return False
            self._running = True
            self._begun += 1
            self._begun_at.append(time.monotonic())
            return True

    def _is_flooded(self) -> bool:
        """Whether the latest run, if it is young enough, must do."""
        now, runs = time.monotonic(), self._begun_at
        return (
            len(runs) == FLOOD_RUNS
            and now - runs[0] < FLOOD_SECONDS
            and now - runs[-1] < MAX_AGE_SECONDS
        )
