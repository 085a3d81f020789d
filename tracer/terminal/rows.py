# SPDX-License-Identifier: MIT
"""The numbers as rows, which the live table, the plain lines and the summary all show."""

from collections.abc import Iterator
from dataclasses import dataclass

from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.snapshot import Aggregate, Series, Snapshot, merge

__all__ = ["Header", "Row", "Totals", "rows", "top_error", "totals"]

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

    Calls in flight are counted by operation and path only, not by transport or label. Of the rows
    that share an operation and path, the first has the number and the others have None.
    """

    name: str
    path: str
    transport: str
    label: str | None
    total: Aggregate
    recent: Aggregate | None
    seconds: float
    in_flight: int | None

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
    return list(_rows(series, lately, new.in_progress(), seconds))


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
