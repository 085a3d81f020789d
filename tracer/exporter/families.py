# SPDX-License-Identifier: MIT
"""Makes metric families from a Snapshot: pure functions, one for each metric.

This module also decides which series exist before any call. `rate()` and `increase()` need two
samples of a series, so they miss what a series counted before its first scrape. Therefore the
calls of the documented API (16 operations on TCP and UDP) and their common errors are exported as
0 from the first scrape; any other series appears with its first call.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tracer.exporter import metrics
from tracer.exporter.connection_families import CONNECTION_FAMILIES
from tracer.exporter.metrics import Labels, Metric
from tracer.model.histogram import SLOTS
from tracer.model.operations import FUNCTIONS, OPERATIONS, Bytes
from tracer.model.snapshot import NOT_EXPORTED, Aggregate, Series, Snapshot, merge

__all__ = ["FAMILIES", "NOTHING", "STARTING", "Family", "Samples", "Value", "clean", "family"]

Value = int | float | Aggregate
Samples = Mapping[Labels, Value]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric at one moment: label values -> sample."""

    metric: Metric
    labels: Labels
    samples: Samples


# Transports of the series that exist from the start; TCP and UDP for any other operation.
_TRANSPORTS = {"poll": ("other",), "select": ("other",), "listen": ("tcp",), "accept": ("tcp",)}

# The errnos that network programs commonly get, by operation.
_RETRY = ("EAGAIN", "EINTR")
_COMMON_ERRNOS = {
    "new": ("EMFILE",),
    "bind": ("EADDRINUSE", "EACCES"),
    "listen": ("EADDRINUSE",),
    "accept": (*_RETRY, "EMFILE"),
    "connect": ("ECONNREFUSED", "EINPROGRESS", "ETIMEDOUT", "EHOSTUNREACH"),
    "send": (*_RETRY, "EPIPE", "ECONNRESET"),
    "sendmsg": (*_RETRY, "EPIPE", "ECONNRESET"),
    "recv": (*_RETRY, "ECONNREFUSED", "ECONNRESET"),
    "recvmsg": (*_RETRY, "ECONNREFUSED", "ECONNRESET"),
    "getpeername": ("ENOTCONN",),
    "select": ("EINTR",),
}

NOTHING = Aggregate(count=0, sum_ns=0, bytes=0, errors={}, slots=(0,) * SLOTS)

STARTING = tuple(
    (operation.name, "user", transport)
    for operation in OPERATIONS
    for transport in _TRANSPORTS.get(operation.name, ("tcp", "udp"))
)
"""Operation, path and transport of the series that exist before any call."""

_MOVES_BYTES = frozenset(
    operation.name
    for operation in OPERATIONS
    if any(call.bytes is not Bytes.NONE for call in operation.system_calls)
)

_BYTE_FUNCTIONS = frozenset(function.name for function in FUNCTIONS if function.returns_bytes)


def family(metric: Metric, snapshot: Snapshot) -> Family:
    """The samples of one metric in this snapshot; `metric` is a key of `FAMILIES`."""
    labels = metric.labels
    if metric.splits and snapshot.label_name is not None:
        labels = (*labels, snapshot.label_name)
    return Family(metric, labels, FAMILIES[metric](snapshot))


def _durations(snapshot: Snapshot) -> Samples:
    return _starting(snapshot, ((s, NOTHING) for s in STARTING)) | _histograms(snapshot.operations)


def _errors(snapshot: Snapshot) -> Samples:
    zeros = (((*s, e), 0) for s in STARTING for e in _COMMON_ERRNOS.get(s[0], ()))
    return _starting(snapshot, zeros) | _error_counts(snapshot.operations)


def _bytes(snapshot: Snapshot) -> Samples:
    zeros = ((s, 0) for s in STARTING if s[0] in _MOVES_BYTES)
    moving = (s for s in snapshot.operations if s.name in _MOVES_BYTES)
    return _starting(snapshot, zeros) | _byte_counts(moving)


def _in_progress(snapshot: Snapshot) -> Samples:
    if snapshot.label_name is not None:
        return _in_progress_by_label(snapshot)
    counts: dict[Labels, Value] = {(operation.name, "user"): 0 for operation in OPERATIONS}
    return counts | {**snapshot.in_progress()}


def _in_progress_by_label(snapshot: Snapshot) -> Samples:
    """Also zeros, so that a series falls to 0. Of calls in the kernel, the label is not known."""
    known = (s for s in _exported(snapshot.operations) if s.path == "user")
    zeros = (((s.name, s.path, clean(s.label or "")), 0) for s in known)
    calls = (((one.operation, "user", clean(one.label)), one.calls) for one in snapshot.in_flight)
    return _sums((*zeros, *calls))


def _starting(snapshot: Snapshot, zeros: Iterable[tuple[Labels, Value]]) -> dict[Labels, Value]:
    """The zeros, or nothing if the series carry the label of `--by`: its values are not known."""
    return dict(zeros) if snapshot.label_name is None else {}


def _histograms(series: Iterable[Series]) -> dict[Labels, Value]:
    # Two cells of the kernel can have the same label text (bytes that are not UTF-8, a process
    # named "other"). Prometheus refuses a scrape that has a series twice, so they are added up.
    result: dict[Labels, Aggregate] = {}
    for one in _exported(series):
        key = _label_values(one)
        known = result.get(key)
        result[key] = merge([known, one.aggregate]) if known else one.aggregate
    return {**result}


def _error_counts(series: Iterable[Series]) -> dict[Labels, Value]:
    return _sums(
        (_label_values(one, errno), count)
        for one in _exported(series)
        for errno, count in one.aggregate.errors.items()
    )


def _byte_counts(series: Iterable[Series]) -> dict[Labels, Value]:
    return _sums((_label_values(one), one.aggregate.bytes) for one in _exported(series))


def _sums(counts: Iterable[tuple[Labels, int]]) -> dict[Labels, Value]:
    result: dict[Labels, int] = {}
    for key, count in counts:
        result[key] = result.get(key, 0) + count
    return {**result}


def _exported(series: Iterable[Series]) -> Iterator[Series]:
    """Without the label values that are no counters: a rate of them means nothing."""
    return (one for one in series if one.label not in NOT_EXPORTED)


def _label_values(series: Series, *more: str) -> Labels:
    values = (series.name, series.path, series.transport, *more)
    return values if series.label is None else (*values, clean(series.label))


@lru_cache(4096)
def clean(text: str) -> str:
    """The text as a label value: valid UTF-8, without NUL, at which Prometheus' parser fails."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _maps(snapshot: Snapshot, field: str) -> Samples:
    return {(one.name,): getattr(one, field) for one in snapshot.maps}


def _probes(snapshot: Snapshot, field: str) -> Samples:
    return _sums(((one.name,), getattr(one, field)) for one in snapshot.probes)


def _programs(snapshot: Snapshot, field: str) -> Samples:
    return {(one.name,): getattr(one, field) for one in snapshot.programs}


def _info(snapshot: Snapshot) -> Samples:
    mechanisms = sorted({probe.mechanism for probe in snapshot.probes if probe.attached})
    return {(snapshot.version, clean(snapshot.kernel), "+".join(mechanisms)): 1}


FAMILIES: Mapping[Metric, Callable[[Snapshot], Samples]] = {
    metrics.DURATION: _durations,
    metrics.ERRORS: _errors,
    metrics.BYTES: _bytes,
    metrics.IN_PROGRESS: _in_progress,
    metrics.FUNCTION_DURATION: lambda snapshot: _histograms(snapshot.functions),
    metrics.FUNCTION_ERRORS: lambda snapshot: _error_counts(snapshot.functions),
    metrics.FUNCTION_BYTES: lambda snapshot: _byte_counts(
        series for series in snapshot.functions if series.name in _BYTE_FUNCTIONS
    ),
    **CONNECTION_FAMILIES,
    metrics.PROBE_ATTACHED: lambda snapshot: {
        (probe.name, probe.mechanism): int(probe.attached) for probe in snapshot.probes
    },
    metrics.PROBE_ENTRIES: lambda snapshot: _probes(snapshot, "entries"),
    metrics.PROBE_RETURNS: lambda snapshot: _probes(snapshot, "returns"),
    metrics.PROBE_ABANDONED: lambda snapshot: _probes(snapshot, "abandoned"),
    metrics.LOST: lambda snapshot: {(reason,): n for reason, n in snapshot.lost.items()},
    metrics.OTHER_LABEL: lambda snapshot: {(): snapshot.other_label},
    metrics.MAP_ENTRIES: lambda snapshot: _maps(snapshot, "entries"),
    metrics.MAP_CAPACITY: lambda snapshot: _maps(snapshot, "capacity"),
    metrics.PROGRAM_RUN_SECONDS: lambda snapshot: _programs(snapshot, "run_seconds"),
    metrics.PROGRAM_RUNS: lambda snapshot: _programs(snapshot, "runs"),
    metrics.INFO: _info,
}
"""The function that makes each metric, except those about the scrape itself."""
