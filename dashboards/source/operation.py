# SPDX-License-Identifier: MIT
"""Operation: one operation in full."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.source.board import board
from dashboards.source.panels import Panel, Query, graph, heat_map, number
from dashboards.source.queries import average, failing, per_second, quantile, select
from tracer.exporter.metrics import BYTES, DURATION, ERRORS, IN_PROGRESS

__all__ = ["operation"]


def operation() -> Dashboard:
    """Make the board."""
    made = board(
        "operation",
        "Operation",
        "One operation of the socket API: how long it takes, what it fails with, how much it "
        "moves.",
        "operation",
        "path",
        "transport",
    )
    for panel in (*_numbers(), *_graphs()):
        made.with_panel(panel)
    return made


def _numbers() -> list[Panel]:
    return [
        number("Calls", "Per second.", per_second(DURATION, suffix="_count"), "ops"),
        number(
            "Failing",
            "Share of failed calls, without EAGAIN, EINPROGRESS and EINTR. High: see Errors by "
            "errno.",
            failing(),
            "percentunit",
            warn=0.01,
            alarm=0.05,
        ),
        number("p50", "Half the calls were quicker.", quantile(0.5), "s"),
        number(
            "p99",
            "99 of 100 calls were quicker. Far from p50: two kinds of calls; the heat map shows "
            "both.",
            quantile(0.99),
            "s",
        ),
        number(
            "In progress",
            "Calls inside the kernel now. Not falling while Calls is 0: stuck.",
            f"sum({select(IN_PROGRESS)})",
            "short",
        ),
        number("Bytes", "Per second, of successful calls.", per_second(BYTES), "Bps"),
    ]


def _graphs() -> list[Panel]:
    return [
        heat_map(
            "Latency",
            "Each row is a doubling of the duration; the darker, the more calls. A second band "
            "above the first is a second kind of call: waiting, retransmission, a full buffer.",
        ),
        graph(
            "Percentiles",
            "From the histogram's buckets, so within a factor of two at the worst. A p99 that "
            "leaves the p50 behind: look for the second band in the heat map.",
            "s",
            Query(quantile(0.5), "p50"),
            Query(quantile(0.9), "p90"),
            Query(quantile(0.99), "p99"),
            Query(average(DURATION), "mean"),
        ),
        graph(
            "Errors by errno",
            "All errors, the harmless ones too. EAGAIN alone: a non-blocking socket that had "
            "nothing to do.",
            "ops",
            Query(per_second(ERRORS, "errno"), "{{errno}}"),
            stacked=True,
        ),
        graph(
            "Calls by transport",
            "tcp, udp, unix, and other for what has none.",
            "ops",
            Query(
                per_second(DURATION, "transport", "path", suffix="_count"), "{{transport}} {{path}}"
            ),
        ),
        graph(
            "Bytes by transport",
            "Bytes per second by transport; with Calls it gives the size of a call. Many tiny "
            "sends: buffer them, or set TCP_NODELAY with care.",
            "Bps",
            Query(per_second(BYTES, "transport", "path"), "{{transport}} {{path}}"),
        ),
        graph(
            "p99 by instance",
            "The same operation on each host. One host apart from the others is that host's "
            "problem.",
            "s",
            Query(quantile(0.99, "instance"), "{{instance}} p99"),
        ),
        graph(
            "In progress by instance",
            "Calls entered and not yet returned, by host. Climbing without end: threads pile up.",
            "short",
            Query(
                f"sum by (instance, operation) ({select(IN_PROGRESS)})",
                "{{instance}} {{operation}}",
            ),
        ),
    ]
