# SPDX-License-Identifier: MIT
"""Every metric this project exports: name, type, help, unit, labels.

This is the only place where a metric is named. What fills it (`tracer.exporter.families`), the
dashboards, the alerts, the table in docs/metrics.md and the tests all take it from here.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = ["METRICS", "Labels", "Metric", "Type"]

Labels = tuple[str, ...]


class Type(Enum):
    """The types of OpenMetrics that are used here; `INFO` is a gauge of 1 in the older format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as a query names it (a counter with its `_total`).

    `unit` is the base unit that ends the name, or nothing. `splits` tells that the series of this
    metric also carry the label of `--by`.
    """

    name: str
    type: Type
    help: str
    labels: Labels
    unit: str = ""
    splits: bool = False


_SERIES = ("operation", "path", "transport")
_FUNCTION = ("function", "path", "transport")
_OPERATION_IS = "a documented operation of the socket API (docs/metrics.md says which system calls)"

DURATION = Metric(
    "lunatik_socket_operation_duration_seconds",
    Type.HISTOGRAM,
    f"Time from entry to return of {_OPERATION_IS}, time spent blocked included.",
    _SERIES,
    "seconds",
    splits=True,
)
ERRORS = Metric(
    "lunatik_socket_operation_errors_total",
    Type.COUNTER,
    "Calls that returned an error, by errno; each is in the duration's count too.",
    (*_SERIES, "errno"),
    splits=True,
)
BYTES = Metric(
    "lunatik_socket_operation_bytes_total",
    Type.COUNTER,
    "Bytes that successful calls sent or received.",
    _SERIES,
    "bytes",
    splits=True,
)
IN_PROGRESS = Metric(
    "lunatik_socket_operation_in_progress",
    Type.GAUGE,
    "Calls that have entered the kernel and not yet returned.",
    ("operation", "path"),
)
FUNCTION_DURATION = Metric(
    "lunatik_socket_function_duration_seconds",
    Type.HISTOGRAM,
    "Time from entry to return of a kernel function that operations are made of.",
    _FUNCTION,
    "seconds",
    splits=True,
)
FUNCTION_ERRORS = Metric(
    "lunatik_socket_function_errors_total",
    Type.COUNTER,
    "Runs of a kernel function that returned an error, by errno.",
    (*_FUNCTION, "errno"),
    splits=True,
)
FUNCTION_BYTES = Metric(
    "lunatik_socket_function_bytes_total",
    Type.COUNTER,
    "Bytes that a kernel function sent or received.",
    _FUNCTION,
    "bytes",
    splits=True,
)
PROBE_ATTACHED = Metric(
    "lunatik_socket_tracer_probe_attached",
    Type.GAUGE,
    "1 if the probe is in place, 0 if the kernel refused it.",
    ("probe", "mechanism"),
)
PROBE_ENTRIES = Metric(
    "lunatik_socket_tracer_probe_entries_total",
    Type.COUNTER,
    "Calls seen to enter; equal to returns, abandoned calls and calls in progress together.",
    ("probe",),
)
PROBE_RETURNS = Metric(
    "lunatik_socket_tracer_probe_returns_total",
    Type.COUNTER,
    "Calls seen to return.",
    ("probe",),
)
PROBE_ABANDONED = Metric(
    "lunatik_socket_tracer_probe_abandoned_total",
    Type.COUNTER,
    "Calls that will never return, for their thread died inside.",
    ("probe",),
)
LOST = Metric(
    "lunatik_socket_tracer_lost_total",
    Type.COUNTER,
    "Calls that could not be counted, or not under their own label, by reason.",
    ("reason",),
)
MAP_ENTRIES = Metric(
    "lunatik_socket_tracer_map_entries",
    Type.GAUGE,
    "Entries in a BPF map.",
    ("map",),
)
MAP_CAPACITY = Metric(
    "lunatik_socket_tracer_map_capacity",
    Type.GAUGE,
    "Entries a BPF map has room for.",
    ("map",),
)
PROGRAM_RUN_SECONDS = Metric(
    "lunatik_socket_tracer_program_run_seconds_total",
    Type.COUNTER,
    "Time spent in a BPF program; stays 0 unless the session measures its cost.",
    ("program",),
    "seconds",
)
PROGRAM_RUNS = Metric(
    "lunatik_socket_tracer_program_runs_total",
    Type.COUNTER,
    "Runs of a BPF program; stays 0 unless the session measures its cost.",
    ("program",),
)
INFO = Metric(
    "lunatik_socket_tracer_info",
    Type.INFO,
    "The tracer's version, the kernel's release, and the mechanisms in use.",
    ("version", "kernel", "mechanism"),
)
SCRAPE_DURATION = Metric(
    "lunatik_socket_tracer_scrape_duration_seconds",
    Type.GAUGE,
    "Time this scrape took to read the kernel's maps and render the metrics above.",
    (),
    "seconds",
)
SCRAPE_ERRORS = Metric(
    "lunatik_socket_tracer_scrape_errors_total",
    Type.COUNTER,
    "Metrics that could not be made and are missing from their scrape; the log says why.",
    (),
)

METRICS = (
    DURATION,
    ERRORS,
    BYTES,
    IN_PROGRESS,
    FUNCTION_DURATION,
    FUNCTION_ERRORS,
    FUNCTION_BYTES,
    PROBE_ATTACHED,
    PROBE_ENTRIES,
    PROBE_RETURNS,
    PROBE_ABANDONED,
    LOST,
    MAP_ENTRIES,
    MAP_CAPACITY,
    PROGRAM_RUN_SECONDS,
    PROGRAM_RUNS,
    INFO,
    SCRAPE_DURATION,
    SCRAPE_ERRORS,
)
