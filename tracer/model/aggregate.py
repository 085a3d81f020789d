# SPDX-License-Identifier: MIT
"""Calls of one kind added up: number, durations, bytes, errors, histogram."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracer.model.histogram import OVERFLOW, UPPER_BOUNDS_SECONDS, quantile_seconds

__all__ = ["Aggregate", "durations_to_json", "merge", "minus"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """All calls of one kind: their number, total duration, bytes, errors and histogram.

    `slots` are the histogram's counts (`tracer.model.histogram`). `errors` is the number of failed
    calls by the errno's name; `count` includes them.
    """

    count: int
    sum_ns: int
    bytes: int
    errors: Mapping[str, int]
    slots: tuple[int, ...]

    def quantile_seconds(self, quantile: float) -> float:
        """See `tracer.model.histogram.quantile_seconds`."""
        return quantile_seconds(self.slots, quantile)


def merge(aggregates: Sequence[Aggregate]) -> Aggregate:
    """The sum of several aggregates."""
    errors: dict[str, int] = {}
    for aggregate in aggregates:
        for name, count in aggregate.errors.items():
            errors[name] = errors.get(name, 0) + count
    return Aggregate(
        count=sum(a.count for a in aggregates),
        sum_ns=sum(a.sum_ns for a in aggregates),
        bytes=sum(a.bytes for a in aggregates),
        errors=errors,
        slots=tuple(map(sum, zip(*(a.slots for a in aggregates), strict=True)))
        or (0,) * (OVERFLOW + 1),
    )


def minus(aggregate: Aggregate, before: Aggregate | None) -> Aggregate:
    """What was added to `before` since; `aggregate` itself if that is None."""
    if before is None:
        return aggregate
    errors = {name: n - before.errors.get(name, 0) for name, n in aggregate.errors.items()}
    return Aggregate(
        count=aggregate.count - before.count,
        sum_ns=aggregate.sum_ns - before.sum_ns,
        bytes=aggregate.bytes - before.bytes,
        errors={name: n for name, n in errors.items() if n},
        slots=tuple(n - m for n, m in zip(aggregate.slots, before.slots, strict=True)),
    )


def durations_to_json(aggregate: Aggregate) -> dict[str, Any]:
    """Number, sum, percentiles and histogram of the durations (docs/json.md)."""
    return {
        "sum_seconds": aggregate.sum_ns / 1e9,
        **{
            f"p{round(q * 100)}_seconds": _finite(aggregate.quantile_seconds(q))
            for q in (0.5, 0.9, 0.99)
        },
        "slots": [[_bound_ns(i), count] for i, count in enumerate(aggregate.slots) if count],
    }


def _finite(seconds: float) -> float | None:
    """JSON has no infinity and no NaN: null."""
    return seconds if seconds < float("inf") else None


def _bound_ns(slot: int) -> float | None:
    return None if slot == OVERFLOW else UPPER_BOUNDS_SECONDS[slot] * 1e9
