# SPDX-License-Identifier: MIT
"""What was measured up to one moment, as frozen dataclasses.

Exporters, the live table, the JSON output and the tests get the numbers in this form only. Counts
are since the session's start.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tracer.model.histogram import OVERFLOW, UPPER_BOUNDS_SECONDS, quantile_seconds

__all__ = [
    "GIVEN_BACK",
    "LOST_WORDS",
    "OTHER",
    "Aggregate",
    "CallAtStart",
    "InFlight",
    "MapUse",
    "ProbeStats",
    "ProgramStats",
    "Series",
    "Snapshot",
    "difference",
    "merge",
    "to_json",
]

OTHER = "other"
"""The label value of calls that were counted when there was no room for more values."""

GIVEN_BACK = "(values given back)"
"""The label value of calls that were counted under values that were given back since.

Longer than any thread's name, so it is no other value. Its series is in totals, but not in the
metrics: at each value that is given back it grows by what was counted long before.
"""

LOST_WORDS = {
    "start_map_full": "more threads in calls at once than there was room for",
    "return_without_entry": "their entry was not seen",
    "return_not_seen": "their return was not seen",
    "probe_missed": "the kernel skipped a run of a BPF program",
}
"""The reasons in `Snapshot.lost`, in words for a user."""


_Key = tuple[str, str, str, str | None]  # name, path, transport, label


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


@dataclass(frozen=True, slots=True)
class Series:
    """One operation or function, on one path, transport and label value, with its aggregate.

    `path` is "user" or "kernel". `label` is the value of the extra label, None without one.
    """

    name: str
    path: str
    transport: str
    label: str | None
    aggregate: Aggregate


@dataclass(frozen=True, slots=True)
class ProbeStats:
    """Counters of one probe: entries = returns + abandoned + in_progress.

    `operation` and `path` are what its calls count as; `operation` is None for a function that is
    no operation. `attached` says whether it is attached both at entry and at return.
    """

    name: str
    operation: str | None
    mechanism: str
    attached: bool
    entries: int
    returns: int
    abandoned: int
    path: str = "user"

    @property
    def in_progress(self) -> int:
        """Calls in flight; never negative."""
        return self.entries - self.returns - self.abandoned


@dataclass(frozen=True, slots=True)
class MapUse:
    """How many entries a map has, and how many it can have."""

    name: str
    entries: int
    capacity: int


@dataclass(frozen=True, slots=True)
class ProgramStats:
    """Counters of one BPF program; `run_seconds` and `runs` are 0 unless the session measures cost.

    `misses` are runs that the kernel skipped since the program was already running on that CPU.
    """

    name: str
    run_seconds: float
    runs: int
    misses: int


@dataclass(frozen=True, slots=True)
class CallAtStart:
    """A call that was already in flight when tracing began; when it entered is not known.

    `pid` and `tid` are the process and the thread, `comm` the thread's name. `descriptor` is None
    for an operation that takes no single socket, such as select.
    """

    pid: int
    tid: int
    comm: str
    operation: str
    descriptor: int | None


@dataclass(frozen=True, slots=True)
class InFlight:
    """Calls in flight of one operation, transport and label value.

    `oldest_ns` is when the oldest of them entered, on CLOCK_MONOTONIC.
    """

    operation: str
    transport: str
    label: str
    calls: int
    oldest_ns: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All numbers at one moment. `monotonic_ns` is the time on CLOCK_MONOTONIC, in ns.

    `in_flight_at_start` are the calls that entered before tracing began. They are not counted, nor
    are they lost. `in_flight` are the calls from user space in flight by label value; empty without
    a label. Each of them has a series in `operations`, even if none of its calls has returned yet.

    No two series have the same name, path, transport and label. A label value that was given back
    has no series any more; its counts are in that of `GIVEN_BACK`. `other_label` is the number of
    calls counted under the label value "other", because there was no room for more values. They
    are not lost.
    """

    monotonic_ns: int
    operations: tuple[Series, ...]
    functions: tuple[Series, ...]
    probes: tuple[ProbeStats, ...]
    lost: Mapping[str, int]
    maps: tuple[MapUse, ...]
    programs: tuple[ProgramStats, ...]
    version: str
    kernel: str
    label_name: str | None = None
    in_flight_at_start: tuple[CallAtStart, ...] = ()
    in_flight: tuple[InFlight, ...] = ()
    other_label: int = 0

    def in_progress(self) -> dict[tuple[str, str], int]:
        """Number of calls in flight by (operation, path)."""
        result: dict[tuple[str, str], int] = {}
        for probe in self.probes:
            if probe.operation is not None:
                key = (probe.operation, probe.path)
                result[key] = result.get(key, 0) + probe.in_progress
        return result

    def in_flight_by_label(self) -> dict[tuple[str, str, str, str | None], InFlight]:
        """The calls in flight by (operation, path, transport, label); empty without a label."""
        return {(one.operation, "user", one.transport, one.label): one for one in self.in_flight}

    def total(self, operation: str, path: str = "user") -> Aggregate:
        """The sum of one operation over all transports and labels."""
        return merge(
            [s.aggregate for s in self.operations if (s.name, s.path) == (operation, path)]
        )


def merge(aggregates: list[Aggregate]) -> Aggregate:
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


def difference(old: Snapshot, new: Snapshot) -> Snapshot:
    """What was counted between two snapshots of one session: `new` minus `old`.

    Series without a call in between are left out. `probes`, `maps`, `programs` and `monotonic_ns`
    are those of `new`.
    """
    return replace(
        new,
        operations=_series_since(old.operations, new.operations),
        functions=_series_since(old.functions, new.functions),
        lost={reason: count - old.lost.get(reason, 0) for reason, count in new.lost.items()},
    )


def _series_since(old: tuple[Series, ...], new: tuple[Series, ...]) -> tuple[Series, ...]:
    before = _as_of_later({_key(s): s.aggregate for s in old}, {_key(s): s.aggregate for s in new})
    since = (replace(s, aggregate=_minus(s.aggregate, before.get(_key(s)))) for s in new)
    return tuple(s for s in since if s.aggregate.count)


def _as_of_later(
    old: dict[_Key, Aggregate], new: Mapping[_Key, Aggregate]
) -> dict[_Key, Aggregate]:
    """The old series, those that were given back until the new ones were read added up as such."""
    gone = [key for key in old if key not in new or new[key].count < old[key].count]
    for key in gone:
        under = (*key[:3], GIVEN_BACK)
        aggregate = old.pop(key)
        old[under] = merge([old[under], aggregate]) if under in old else aggregate
    return old


def _key(series: Series) -> _Key:
    return series.name, series.path, series.transport, series.label


def _minus(aggregate: Aggregate, before: Aggregate | None) -> Aggregate:
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


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as the JSON document of `--json` (docs/json.md)."""
    in_progress, by_label = snapshot.in_progress(), snapshot.in_flight_by_label()

    def of(series: Series) -> int | None:
        if snapshot.label_name is None:
            return in_progress.get((series.name, series.path), 0)
        if series.path != "user":
            return None  # not known by label
        one = by_label.get((series.name, series.path, series.transport, series.label))
        return one.calls if one else 0

    return {
        "operations": [
            _series_to_json("operation", s, snapshot.label_name) | {"in_progress": of(s)}
            for s in snapshot.operations
        ],
        "functions": [
            _series_to_json("function", s, snapshot.label_name) for s in snapshot.functions
        ],
        "tracer": {
            "version": snapshot.version,
            "kernel": snapshot.kernel,
            "mechanisms": sorted({p.mechanism for p in snapshot.probes if p.attached}),
            "probes": [
                {
                    "probe": p.name,
                    "mechanism": p.mechanism,
                    "attached": p.attached,
                    "entries": p.entries,
                    "returns": p.returns,
                    "in_progress": p.in_progress,
                }
                for p in snapshot.probes
            ],
            "lost": dict(snapshot.lost),
            "in_flight_at_start": [asdict(call) for call in snapshot.in_flight_at_start],
            "other_label": snapshot.other_label,
            "maps": [
                {"map": m.name, "entries": m.entries, "capacity": m.capacity} for m in snapshot.maps
            ],
            "programs": [
                {"program": p.name, "run_seconds": p.run_seconds, "runs": p.runs}
                for p in snapshot.programs
            ],
        },
    }


def _series_to_json(kind: str, series: Series, label_name: str | None) -> dict[str, Any]:
    aggregate = series.aggregate
    label = {} if label_name is None else {label_name: series.label}
    return {
        kind: series.name,
        "path": series.path,
        "transport": series.transport,
        **label,
        "count": aggregate.count,
        "bytes": aggregate.bytes,
        "errors": dict(aggregate.errors),
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
