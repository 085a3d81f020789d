# SPDX-License-Identifier: MIT
"""What the server refused, counted by reason, and logged at most once a minute."""

import logging
import time
from collections import Counter
from threading import Lock

__all__ = ["REASONS", "Refusals"]

LOG_SECONDS = 60.0

REASONS = {
    "room": "connections closed to make room for new ones",
    "descriptors": "connections that waited because the process has too many open files",
    "handshake": "failed TLS handshakes",
    "host": "requests with a foreign Host header",
    "login": "failed log-ins",
    "rate": "requests above the rate limit",
    "stream": "streams of the live page closed to make room for others, or refused",
}
"""The reasons, as in the label of the metric, and in words for the log."""

_log = logging.getLogger(__name__)


class Refusals:
    """Counters by reason; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts = dict.fromkeys(REASONS, 0)
        self._unlogged: Counter[str] = Counter()
        self._last_from: dict[str, str] = {}
        self._next_log = 0.0

    @property
    def counts(self) -> dict[str, int]:
        """The number of refusals so far, by reason."""
        with self._lock:
            return dict(self._counts)

    def count(self, reason: str, address: str = "") -> None:
        """Count a refusal of the client at this address; the first one is logged at once."""
        with self._lock:
            self._counts[reason] += 1
            self._unlogged[reason] += 1
            self._last_from[reason] = address
        self.log_if_due()

    def log_if_due(self) -> None:
        """Log what was counted since the last line, if that was a minute ago."""
        now = time.monotonic()
        with self._lock:
            if not self._unlogged or now < self._next_log:
                return
            self._next_log = now + LOG_SECONDS
            parts = [
                f"{REASONS[reason]}: {number}{self._from(reason)}"
                for reason, number in self._unlogged.items()
            ]
            self._unlogged.clear()
        _log.warning("refused: %s", "; ".join(parts))

    def _from(self, reason: str) -> str:
        address = self._last_from[reason]
        return f" (the last from {address})" if address else ""
