# SPDX-License-Identifier: MIT
"""The numbers as rows, which the live table, the plain lines and the summary all show."""

from collections.abc import Iterator
from dataclasses import dataclass

from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.operations import OPERATIONS, WAITING_OPERATIONS
from tracer.model.snapshot import Aggregate, CallAtStart, Series, Snapshot, merge

__all__ = [
    "Header",
    "Row",
    "Totals",
    "at_start",
    "escaped",
    "rows",
    "top_error",
    "totals",
    "visible",
]

_NAMED_AT_START = 3
_OPERATIONS = frozenset(operation.name for operation in OPERATIONS)

_Key = tuple[str, str, str, str | None]


@dataclass(frozen=True, slots=True)
class Header:
    """The lines above the numbers: what is traced, where the metrics are, hints to try."""

    subject: str
    metrics_url: str | None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `recent` was counted in the last `seconds`, `total` since the start.

    `in_flight` is None where it is not known. With a label, calls from user space are counted by
    transport and label too, and `in_flight_seconds` is the age of the row's oldest call. Without
    one they are counted by operation and path only: of the rows that share these, the first has the
    number and the others have None.
    """

    name: str
    path: str
    transport: str
    label: str | None
    total: Aggregate
    recent: Aggregate | None
    seconds: float
    in_flight: int | None
    in_flight_seconds: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, str | None]:
        """Operation or function, path, transport and label."""
        return self.name, self.path, self.transport, self.label

    @property
    def is_stuck(self) -> bool:
        """Whether calls are in flight, and none has returned in the whole interval."""
        return bool(self.in_flight) and not self.recent

    @property
    def per_second(self) -> float:
        """Calls per second in the last interval."""
        return self.recent.count / self.seconds if self.recent else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes per second in the last interval."""
        return self.recent.bytes / self.seconds if self.recent else 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """All operations together."""

    calls: int
    errors: int
    bytes: int
    lost: int


def rows(new: Snapshot, recent: Snapshot, seconds: float) -> list[Row]:
    """Every series of `new`, the busiest first by `recent`, counted in the last `seconds`."""
    lately = {_key(s): s.aggregate for s in (*recent.operations, *recent.functions)}
    series = sorted(
        (*new.operations, *new.functions),
        key=lambda s: (-_count(lately.get(_key(s))), -s.aggregate.count),
    )
    if new.label_name is not None:
        return list(_labelled_rows(series, lately, new, seconds))
    return list(_rows(series, lately, new.in_progress(), seconds))


def _labelled_rows(
    series: list[Series], lately: dict[_Key, Aggregate], new: Snapshot, seconds: float
) -> Iterator[Row]:
    by_label = new.in_flight_by_label()
    for s in series:
        one = by_label.get(_key(s))
        is_known = s.path == "user" and s.name in _OPERATIONS
        yield Row(
            *_key(s),
            s.aggregate,
            lately.get(_key(s)),
            seconds,
            (one.calls if one else 0) if is_known else None,
            (new.monotonic_ns - one.oldest_ns) / 1e9 if one else 0.0,
        )


def _rows(
    series: list[Series],
    lately: dict[_Key, Aggregate],
    in_flight: dict[tuple[str, str], int],
    seconds: float,
) -> Iterator[Row]:
    for s in series:
        # pop: only the first row of an operation and path gets the number.
        now = in_flight.pop((s.name, s.path), None)
        yield Row(
            s.name, s.path, s.transport, s.label, s.aggregate, lately.get(_key(s)), seconds, now
        )


def totals(snapshot: Snapshot) -> Totals:
    """The sums over all operations, and how many calls were lost."""
    everything = merge([s.aggregate for s in snapshot.operations])
    return Totals(
        calls=everything.count,
        errors=sum(everything.errors.values()),
        bytes=everything.bytes,
        lost=sum(snapshot.lost.values()),
    )


def visible(rows: list[Row], room: int) -> list[Row]:
    """At most `room` of the rows: the busiest, and those with stuck calls.

    Rows with stuck calls take up to half of the room, however busy the others are. Of these, the
    operations that wait by design come last, and the oldest calls first.
    """
    stuck = sorted(
        (row for row in rows[room // 2 :] if row.is_stuck),
        key=lambda row: (row.name in WAITING_OPERATIONS, -row.in_flight_seconds),
    )[: (room + 1) // 2]
    ids = {id(row) for row in stuck}
    busy = [row for row in rows if id(row) not in ids][: room - len(stuck)]
    ids.update(id(row) for row in busy)
    return [row for row in rows if id(row) in ids]


def at_start(snapshot: Snapshot) -> str:
    """How many calls were in flight when tracing began, and some of them; "" if none were."""
    calls = snapshot.in_flight_at_start
    if not calls:
        return ""
    were = "1 call was" if len(calls) == 1 else f"{len(calls):,} calls were"
    named = [_call_at_start(call) for call in calls[:_NAMED_AT_START]]
    more = [f"{len(calls) - len(named):,} more"] if len(calls) > len(named) else []
    return f"{were} already in flight when tracing began: {', '.join(named + more)}"


def _call_at_start(call: CallAtStart) -> str:
    thread = f"{call.pid}" if call.tid == call.pid else f"{call.pid}/{call.tid}"
    descriptor = "" if call.descriptor is None else f" on descriptor {call.descriptor}"
    return f"{escaped(call.comm)}[{thread}] {call.operation}{descriptor}"


def escaped(text: str) -> str:
    """The text on one line, without control characters."""
    return text.encode("unicode_escape").decode()


def top_error(aggregate: Aggregate) -> tuple[int, str]:
    """How many calls failed with the errno to show, and its name; 0 and "" if none failed.

    That is the most frequent errno; one of EXPECTED_ERRNOS only if there is no other.
    """
    errors = aggregate.errors
    if not errors:
        return 0, ""
    name = max(errors, key=lambda name: (name not in EXPECTED_ERRNOS, errors[name], name))
    return errors[name], name


def _key(series: Series) -> _Key:
    return series.name, series.path, series.transport, series.label


def _count(aggregate: Aggregate | None) -> int:
    return aggregate.count if aggregate else 0
