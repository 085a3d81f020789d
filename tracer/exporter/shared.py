# SPDX-License-Identifier: MIT
"""One run of a costly function for all who ask for it at the same time."""

from collections.abc import Callable
from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Shared"]

T = TypeVar("T")


class Shared(Generic[T]):
    """Calls `function` for many threads, one run at a time.

    `get` answers with the result of a run that began after it was called, never with an older one:
    what happened before the call is in it. All who call during a run share the next, so that any
    number of callers at once costs two runs at most.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._changed = Condition()
        self._begun = 0
        self._ended = 0
        self._running = False
        self._result: T

    def get(self) -> T:
        """Return the result of a fresh run; raise what `function` raises, if this caller ran it."""
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
        """Wait for a run that began after now; true if it is for this caller to run it."""
        with self._changed:
            wanted = self._begun + 1
            while self._running and self._ended < wanted:
                self._changed.wait()
            if self._ended >= wanted:
                return False
            self._running = True
            self._begun += 1
            return True
