# SPDX-License-Identifier: MIT
"""Every metric of this project: name, type, help, unit, labels.

This is the only place that names a metric. The code that fills it (`tracer.exporter.families`), the
dashboards, the table in docs/metrics.md and the tests take it from here. The labels that `--by`
offers are `LABELS` in tracer/model/config.py; bpf/label.h reads their values.
"""

from dataclasses import dataclass
from enum import Enum

__all__ = ["METRICS", "Labels", "Metric", "Type"]

Labels = tuple[str, ...]


class Type(Enum):
    """The types of OpenMetrics in use; in Prometheus' text format `INFO` is a gauge of value 1."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `name` is as in a query, so a counter's ends in `_total`.

    `unit` is the base unit at the end of the name, or empty. With `splits` the series of this
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
_PEER = ("comm", "pid", "peer", "port")
_LISTENER = ("comm", "address", "port")

DURATION = Metric(
    "lunatik_socket_operation_duration_seconds",
    Type.HISTOGRAM,
    "Duration of a socket operation, from entry to return, including time spent blocked.",
    _SERIES,
    "seconds",
    splits=True,
)
ERRORS = Metric(
    "lunatik_socket_operation_errors_total",
    Type.COUNTER,
    "Calls that returned an error, by errno; they are also in the count of the duration.",
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
    "Calls in flight: entered and not yet returned.",
    ("operation", "path"),
    splits=True,
)
FUNCTION_DURATION = Metric(
    "lunatik_socket_function_duration_seconds",
    Type.HISTOGRAM,
    "Duration of a kernel function that socket operations call, from entry to return.",
    _FUNCTION,
    "seconds",
    splits=True,
)
FUNCTION_ERRORS = Metric(
    "lunatik_socket_function_errors_total",
    Type.COUNTER,
    "Calls of a kernel function that returned an error, by errno.",
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
CONNECT_DURATION = Metric(
    "lunatik_socket_connect_duration_seconds",
    Type.HISTOGRAM,
    "From the SYN of a TCP connect to established, or to the failure in result.",
    (*_PEER, "result"),
    "seconds",
)
ANSWER_DURATION = Metric(
    "lunatik_socket_answer_duration_seconds",
    Type.HISTOGRAM,
    "How long an answer took: the peer's for role client, this process's for role server.",
    (*_PEER, "role", "transport"),
    "seconds",
)
ACCEPT_WAIT = Metric(
    "lunatik_socket_accept_wait_seconds",
    Type.HISTOGRAM,
    "From established to accepted: the time of a TCP connection in the accept queue.",
    _PEER,
    "seconds",
)
CONNECTION_DURATION = Metric(
    "lunatik_socket_connection_duration_seconds",
    Type.HISTOGRAM,
    "Life of a TCP connection, from established to closed.",
    (*_PEER, "role"),
    "seconds",
)
CONNECTIONS_OPEN = Metric(
    "lunatik_socket_connections_open",
    Type.GAUGE,
    "TCP connections that are established and not closed by their process.",
    (*_PEER, "role"),
)
RETRANSMITS = Metric(
    "lunatik_socket_retransmits_total",
    Type.COUNTER,
    "TCP segments sent again, SYNs included.",
    (*_PEER, "role"),
)
RESETS = Metric(
    "lunatik_socket_resets_total",
    Type.COUNTER,
    "TCP resets sent and received; a refused connect receives one.",
    (*_PEER, "role", "direction"),
)
ACCEPT_QUEUE = Metric(
    "lunatik_socket_accept_queue_length",
    Type.GAUGE,
    "Connections that wait to be accepted.",
    _LISTENER,
)
ACCEPT_QUEUE_LIMIT = Metric(
    "lunatik_socket_accept_queue_limit",
    Type.GAUGE,
    "Connections that may wait to be accepted: the listener's backlog.",
    _LISTENER,
)
ACCEPT_DROPS = Metric(
    "lunatik_socket_accept_drops_total",
    Type.COUNTER,
    "Connections and SYNs that a listener dropped, mostly because its accept queue was full.",
    _LISTENER,
)
PROBE_ATTACHED = Metric(
    "lunatik_socket_tracer_probe_attached",
    Type.GAUGE,
    "1 if the probe is attached, 0 if the kernel refused it.",
    ("probe", "mechanism"),
)
PROBE_ENTRIES = Metric(
    "lunatik_socket_tracer_probe_entries_total",
    Type.COUNTER,
    "Calls whose entry was seen: the sum of returns, abandoned calls and calls in flight.",
    ("probe",),
)
PROBE_RETURNS = Metric(
    "lunatik_socket_tracer_probe_returns_total",
    Type.COUNTER,
    "Calls whose return was seen.",
    ("probe",),
)
PROBE_ABANDONED = Metric(
    "lunatik_socket_tracer_probe_abandoned_total",
    Type.COUNTER,
    "Calls whose entry was seen and whose return was not: the thread ended, or it was missed.",
    ("probe",),
)
LOST = Metric(
    "lunatik_socket_tracer_lost_total",
    Type.COUNTER,
    "Calls that could not be counted, by reason.",
    ("reason",),
)
OTHER_LABEL = Metric(
    "lunatik_socket_tracer_other_label_total",
    Type.COUNTER,
    "Calls counted under the label value other: --by has no room for more values.",
    (),
)
OTHER_PEER = Metric(
    "lunatik_socket_tracer_other_peer_total",
    Type.COUNTER,
    "Sockets counted under the peer other: --connections has no room for more peers.",
    (),
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
    "Entries that a BPF map has room for.",
    ("map",),
)
PROGRAM_RUN_SECONDS = Metric(
    "lunatik_socket_tracer_program_run_seconds_total",
    Type.COUNTER,
    "Time spent in a BPF program; 0 unless the tracer measures its own cost.",
    ("program",),
    "seconds",
)
PROGRAM_RUNS = Metric(
    "lunatik_socket_tracer_program_runs_total",
    Type.COUNTER,
    "Runs of a BPF program; 0 unless the tracer measures its own cost.",
    ("program",),
)
INFO = Metric(
    "lunatik_socket_tracer_info",
    Type.INFO,
    "Version of the tracer, release of the kernel, mechanisms in use.",
    ("version", "kernel", "mechanism"),
)
SCRAPE_DURATION = Metric(
    "lunatik_socket_tracer_scrape_duration_seconds",
    Type.GAUGE,
    "Time that this scrape took to read the kernel's maps and render the metrics above.",
    (),
    "seconds",
)
SCRAPE_ERRORS = Metric(
    "lunatik_socket_tracer_scrape_errors_total",
    Type.COUNTER,
    "Metrics missing from a scrape because they could not be made; the log says why.",
    (),
)
REFUSALS = Metric(
    "lunatik_socket_exporter_refusals_total",
    Type.COUNTER,
    "Connections, requests, log-ins and streams that the exporter refused or closed, by reason.",
    ("reason",),
)

METRICS = (
    DURATION,
    ERRORS,
    BYTES,
    IN_PROGRESS,
    FUNCTION_DURATION,
    FUNCTION_ERRORS,
    FUNCTION_BYTES,
    CONNECT_DURATION,
    ANSWER_DURATION,
    ACCEPT_WAIT,
    CONNECTION_DURATION,
    CONNECTIONS_OPEN,
    RETRANSMITS,
    RESETS,
    ACCEPT_QUEUE,
    ACCEPT_QUEUE_LIMIT,
    ACCEPT_DROPS,
    PROBE_ATTACHED,
    PROBE_ENTRIES,
    PROBE_RETURNS,
    PROBE_ABANDONED,
    LOST,
    OTHER_LABEL,
    OTHER_PEER,
    MAP_ENTRIES,
    MAP_CAPACITY,
    PROGRAM_RUN_SECONDS,
    PROGRAM_RUNS,
    INFO,
    REFUSALS,
    SCRAPE_DURATION,
    SCRAPE_ERRORS,
)
