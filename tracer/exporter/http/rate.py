# SPDX-License-Identifier: MIT
"""A token bucket: the rate limit of `rate_limit` in the web configuration."""

import time
from collections.abc import Callable
from threading import Lock

__all__ = ["TokenBucket"]


class TokenBucket:
    """Allows one request each `interval` seconds, and up to `burst` at once after a pause.

    It begins full. Safe to use from many threads.
    """

    def __init__(
        self, interval: float, burst: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.interval = interval
        self.burst = burst
        self._now = now
        self._tokens = float(burst)
        self._filled = now()
        self._lock = Lock()

    def take(self) -> bool:
        """Take a token; false if there is none."""
        with self._lock:
            now = self._now()
            filled = self._tokens + (now - self._filled) / self.interval
            self._tokens = min(float(self.burst), filled)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
