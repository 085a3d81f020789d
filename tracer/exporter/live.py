# SPDX-License-Identifier: MIT
"""The stream behind the live page: once a second the whole state as JSON, for all who look.

One thread reads and encodes, and only while somebody looks. Each client's own thread waits for the
latest event and writes it; one that is slower than the stream skips events, so nothing queues up.
The events say totals since the session's start. The page makes rates of them, which survives a
skipped event, a pause and a reconnection.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from threading import Condition, Thread
from typing import Any

from tracer.exporter.families import NOTHING, STARTING
from tracer.model.operations import OPERATIONS, PATHS, TRANSPORTS
from tracer.model.snapshot import Series, Snapshot, merge, to_json

__all__ = ["Live", "live_state"]

INTERVAL_SECONDS = 1.0
_WAIT_SECONDS = 5.0


class Live:
    """Server-sent events of a source's snapshots; safe to use from many threads."""

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

    def events(self) -> Iterator[bytes]:
        """Each new event, or the latest if several came meanwhile; ends with `stop`."""
        with self._changed:
            self._watchers += 1
            seen = self._number
            if self._thread is None and not self._stopped:
                self._thread = Thread(target=self._run, name="live", daemon=True)
                self._thread.start()
        try:
            yield b"retry: 1000\n\n"
            while (event := self._next(seen)) is not None:
                seen, text = event
                yield text
        finally:
            with self._changed:
                self._watchers -= 1
                self._changed.notify_all()

    @property
    def watchers(self) -> int:
        """How many streams are open."""
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
            # A comment keeps the connection's death from going unnoticed while nothing comes.
            return (self._number, self._event) if new else (seen, b": nothing new\n\n")

    def _run(self) -> None:
        due = time.monotonic()
        while self._goes_on(due):
            event = self._make_event()
            with self._changed:
                self._number += 1
                self._event = event
                self._changed.notify_all()
            due = max(due + INTERVAL_SECONDS, time.monotonic())

    def _goes_on(self, due: float) -> bool:
        """Wait until it is time for the next event; false, and the thread ends, if nobody looks."""
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
    """Give the snapshot as plain data for the page.

    The values of an extra label are added up, and the API's own calls are there before they are
    made: one that is still in progress has nothing counted yet. All are in the order of the table.
    """
    operations = _unsplit(snapshot.operations)
    counted = {_place(one) for one in operations}
    idle = (Series(*place, None, NOTHING) for place in STARTING if place not in counted)
    whole = replace(
        snapshot,
        operations=tuple(sorted((*operations, *idle), key=_order)),
        functions=_unsplit(snapshot.functions),
        label_name=None,
    )
    return {"at_seconds": snapshot.monotonic_ns / 1e9, **to_json(whole)}


def _unsplit(series: tuple[Series, ...]) -> tuple[Series, ...]:
    if all(one.label is None for one in series):
        return series

    return tuple(
        Series(*key, None, merge([one.aggregate for one in cells]))
        for key, cells in groupby(sorted(series, key=_place), _place)
    )


_RANKS = {operation.name: rank for rank, operation in enumerate(OPERATIONS)}


def _order(series: Series) -> tuple[int, int, int]:
    path, transport = PATHS.index(series.path), TRANSPORTS.index(series.transport)
    return (_RANKS[series.name], path, transport)


def _place(series: Series) -> tuple[str, str, str]:
    return (series.name, series.path, series.transport)
