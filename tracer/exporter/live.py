# SPDX-License-Identifier: MIT
"""The event stream of the live page: once a second the whole state as JSON, to every client.

One thread reads and encodes, and only while a client is connected. The thread of each client waits
for the latest event and writes it. A client slower than the stream skips events, so no queue grows.
Events contain totals since the session began. The page computes rates from them, so a skipped
event, a pause or a reconnection does no harm.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from threading import Condition, Thread
from typing import Any

from tracer.exporter.families import NOTHING, STARTING
from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.operations import OPERATIONS, PATHS, TRANSPORTS
from tracer.model.snapshot import LOST_WORDS, Series, Snapshot, merge, to_json

__all__ = ["Live", "live_state"]

INTERVAL_SECONDS = 1.0
_WAIT_SECONDS = 5.0


class Live:
    """Snapshots as server-sent events; safe to use from many threads."""

    def __init__(self, snapshot: Callable[[], Snapshot | None], errors: Callable[[], int]) -> None:
        self._snapshot = snapshot
        self._errors = errors
        self._session = time.time_ns()
        self._changed = Condition()
        self._watchers = 0
        self._number = 0
        self._event = b""
        self._thread: Thread | None = None
        self._stopped = False

    def events(self, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[bytes]:
        """Each new event, or only the latest if several were made meanwhile.

        Ends with `stop`, and after an event if it is not wanted any more.
        """
        with self._changed:
            self._watchers += 1
            seen = self._number
            if self._thread is None and not self._stopped:
                self._thread = Thread(target=self._run, name="live", daemon=True)
                self._thread.start()
        try:
            yield b"retry: 1000\n\n"
            while is_wanted() and (event := self._next(seen)) is not None:
                seen, text = event
                yield text
        finally:
            with self._changed:
                self._watchers -= 1
                self._changed.notify_all()

    @property
    def watchers(self) -> int:
        """Number of open streams."""
        return self._watchers

    def stop(self) -> None:
        """End every stream."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _next(self, seen: int) -> tuple[int, bytes] | None:
        with self._changed:
            new = self._changed.wait_for(
                lambda: self._number > seen or self._stopped, _WAIT_SECONDS
            )
            if self._stopped:
                return None
            # While there is no event, a comment is sent: writing it shows a dead connection.
            return (self._number, self._event) if new else (seen, b": nothing new\n\n")

    def _run(self) -> None:
        due = time.monotonic()
        while self._is_wanted_at(due):
            event = self._make_event()
            with self._changed:
                self._number += 1
                self._event = event
                self._changed.notify_all()
            due = max(due + INTERVAL_SECONDS, time.monotonic())

    def _is_wanted_at(self, due: float) -> bool:
        """Wait until `due`; false if no client is left, and then the thread ends."""
        with self._changed:
            while (left := due - time.monotonic()) > 0 and not self._stopped:
                self._changed.wait(left)
            if self._watchers and not self._stopped:
                return True
            self._thread = None
            return False

    def _make_event(self) -> bytes:
        snapshot = self._snapshot()
        if snapshot is None:
            return b"event: failed\ndata: the log says why\n\n"
        state = live_state(snapshot) | {
            "session": self._session,
            "scrape_errors": self._errors(),
        }
        text = json.dumps(state, separators=(",", ":"), allow_nan=False)
        return f"id: {self._number + 1}\ndata: {text}\n\n".encode()


def live_state(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as plain data for the page.

    Series that differ only in the label of `--by` are added up. The series of the documented API
    are present before the first call, so that a call in flight has a row. The order is that of
    `OPERATIONS`. `expected_errnos` are the errnos that are no failures, `lost_words` the reasons of
    lost calls in words. Of the calls that were in flight at the start there is only the number.
    """
    operations = _unsplit(snapshot.operations)
    counted = {_key(one) for one in operations}
    idle = (Series(*key, None, NOTHING) for key in STARTING if key not in counted)
    whole = replace(
        snapshot,
        operations=tuple(sorted((*operations, *idle), key=_order)),
        functions=_unsplit(snapshot.functions),
        label_name=None,
    )
    document = to_json(whole)
    document["tracer"]["in_flight_at_start"] = len(snapshot.in_flight_at_start)
    return {
        "at_seconds": snapshot.monotonic_ns / 1e9,
        "expected_errnos": EXPECTED_ERRNOS,
        "lost_words": LOST_WORDS,
        **document,
    }


def _unsplit(series: tuple[Series, ...]) -> tuple[Series, ...]:
    if all(one.label is None for one in series):
        return series

    return tuple(
        Series(*key, None, merge([one.aggregate for one in cells]))
        for key, cells in groupby(sorted(series, key=_key), _key)
    )


_RANKS = {operation.name: rank for rank, operation in enumerate(OPERATIONS)}


def _order(series: Series) -> tuple[int, int, int]:
    path, transport = PATHS.index(series.path), TRANSPORTS.index(series.transport)
    return (_RANKS[series.name], path, transport)


def _key(series: Series) -> tuple[str, str, str]:
    return (series.name, series.path, series.transport)
