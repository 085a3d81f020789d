# SPDX-License-Identifier: MIT
"""Operation: everything about one operation."""

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
        "One operation of the socket API: how long it takes, with which errnos it fails, how many "
        "bytes it moves.",
        "operation",
        "path",
        "transport",
    )
    for panel in (*_numbers(), *_graphs()):
        made.with_panel(panel)
    return made


def _numbers() -> list[Panel]:
    return [
        number("Calls", "Calls per second.", per_second(DURATION, suffix="_count"), "ops"),
        number(
            "Failing",
            "Share of calls that failed, not counting errnos that are no failures (EAGAIN, "
            "EINPROGRESS, EINTR and the like). If it is high, see Errors by errno.",
            failing(),
            "percentunit",
            warn=0.01,
            alarm=0.05,
        ),
        number("p50", "Half the calls were faster.", quantile(0.5), "s"),
        number(
            "p99",
            "99 of 100 calls were faster. If it is far above p50, there are two kinds of calls; "
            "the "
            "heat map shows both.",
            quantile(0.99),
            "s",
        ),
        number(
            "In flight",
            "Calls entered and not yet returned. If it stays above 0 while Calls is 0, they are "
            "stuck.",
            f"sum({select(IN_PROGRESS)})",
            "short",
        ),
        number("Bytes", "Bytes per second that successful calls moved.", per_second(BYTES), "Bps"),
    ]


def _graphs() -> list[Panel]:
    return [
        heat_map(
            "Latency",
            "Each row is twice the duration of the row below; darker means more calls. A second "
            "band above the first is a second kind of call: waiting, retransmission, a full "
            "buffer.",
        ),
        graph(
            "Percentiles",
            "From the histogram's buckets, so right to within a factor of two. If p99 rises and "
            "p50 "
            "does not, look for a second band in the heat map.",
            "s",
            Query(quantile(0.5), "p50"),
            Query(quantile(0.9), "p90"),
            Query(quantile(0.99), "p99"),
            Query(average(DURATION), "mean"),
        ),
        graph(
            "Errors by errno",
            "All errors, including errnos that are no failures. EAGAIN alone: a non-blocking call "
            "would have had to wait.",
            "ops",
            Query(per_second(ERRORS, "errno"), "{{errno}}"),
            stacked=True,
        ),
        graph(
            "Calls by transport",
            "tcp, udp, unix; other for calls that are on none of these.",
            "ops",
            Query(
                per_second(DURATION, "transport", "path", suffix="_count"), "{{transport}} {{path}}"
            ),
        ),
        graph(
            "Bytes by transport",
            "Bytes per second by transport; divided by Calls, the bytes of a call. If sends are "
            "many "
            "and tiny, buffer them in the program.",
            "Bps",
            Query(per_second(BYTES, "transport", "path"), "{{transport}} {{path}}"),
        ),
        graph(
            "p99 by instance",
            "The same operation on each host. If one host is slower than the others, look at that "
            "host.",
            "s",
            Query(quantile(0.99, "instance"), "{{instance}} p99"),
        ),
        graph(
            "In flight by instance",
            "Calls entered and not yet returned, by host. If a line keeps rising, more and more "
            "threads wait there.",
            "short",
            Query(
                f"sum by (instance, operation) ({select(IN_PROGRESS)})",
                "{{instance}} {{operation}}",
            ),
        ),
    ]
