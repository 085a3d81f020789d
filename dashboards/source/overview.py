# SPDX-License-Identifier: MIT
"""Overview: every operation at once, user and kernel side next to each other, worst first."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.source.board import LINK_TO_OPERATION, board
from dashboards.source.panels import Column, Panel, Query, graph, list_of, number
from dashboards.source.queries import (
    DAILY_ERRNOS,
    WAITING,
    failing,
    per_second,
    quantile,
    select,
)
from tracer.exporter.metrics import BYTES, DURATION, ERRORS, IN_PROGRESS, INFO, LOST

__all__ = ["overview"]

_BY = ("operation", "path")
_FAILURE = f'!~"{DAILY_ERRNOS}"'


def overview() -> Dashboard:
    """Make the board."""
    made = board(
        "overview",
        "Overview",
        "Which socket operation is slow or failing, on which host, from user space or in the "
        "kernel.",
        "operation",
        "path",
        "transport",
    )
    made.with_row(Row("At a glance"))
    for panel in _glance():
        made.with_panel(panel)
    made.with_panel(_worst())
    made.with_row(Row("User space on the left, code inside the kernel on the right"))
    for pair in zip(_side("user", "user"), _side("kernel", "in kernel"), strict=True):
        for panel in pair:
            made.with_panel(panel)
    return made


def _glance() -> list[Panel]:
    own = f"not {WAITING.replace('|', ', ')}"
    return [
        number(
            "Calls",
            "Socket operations per second. A sudden drop with the load unchanged: the server is "
            "stuck; see In progress.",
            per_second(DURATION, suffix="_count"),
            "ops",
        ),
        number(
            "Failing",
            "Share of calls that failed, leaving out what non-blocking sockets return all day "
            "(EAGAIN, EINPROGRESS, EINTR). High: find the operation in the table, open it, read "
            "its errnos.",
            failing(),
            "percentunit",
            warn=0.01,
            alarm=0.05,
        ),
        number(
            "p99, calls that should not wait",
            f"99 of 100 calls were quicker; only operations that do not wait for a peer ({own}). "
            "High: full socket buffers (send), a slow peer or network (connect), or a starved CPU.",
            quantile(0.99, operation=f'!~"{WAITING}"'),
            "s",
            warn=0.01,
            alarm=0.1,
        ),
        number(
            "In progress",
            "Calls inside the kernel now. Threads waiting for work count too (accept, recv, "
            "select); what grows without end is a leak or a stuck peer.",
            f"sum({select(IN_PROGRESS)})",
            "short",
        ),
        number(
            "Tracers",
            "Tracers that answer. Fewer than hosts: see which is missing on the Tracer board.",
            f"count({select(INFO)})",
            "short",
        ),
        number(
            "Lost",
            "Calls that could not be counted in the last five minutes. Above 0 the other numbers "
            "are too low: the Tracer board says why.",
            f"sum(increase({select(LOST)}[5m]))",
            "short",
            warn=1,
            alarm=100,
        ),
    ]


def _worst() -> Panel:
    return list_of(
        "Operations, worst first",
        "One row an operation and side; choose a name to see it alone. Rows at the top fail most. "
        "recv, accept and select wait for others, so a long p99 is normal for them.",
        ["operation", "path"],
        [
            Column("Calls/s", per_second(DURATION, *_BY, suffix="_count"), "ops"),
            Column("Failing", failing(*_BY), "percentunit", warn=0.01, alarm=0.05),
            Column("p50", quantile(0.5, *_BY), "s"),
            Column("p99", quantile(0.99, *_BY), "s"),
            Column("In progress", f"sum by (operation, path) ({select(IN_PROGRESS)})"),
        ],
        sort="Failing",
        link=("operation", LINK_TO_OPERATION),
    )


def _side(path: str, side: str) -> list[Panel]:
    only = f'="{path}"'
    return [
        graph(
            f"Calls, {side}",
            "Calls per second of each operation.",
            "ops",
            Query(per_second(DURATION, "operation", suffix="_count", path=only), "{{operation}}"),
        ),
        graph(
            f"Failures by errno, {side}",
            "Failed calls per second, the daily errnos of non-blocking sockets left out. Read "
            "the errno: ECONNREFUSED nobody listens, ETIMEDOUT or EHOSTUNREACH the network, "
            "EPIPE or ECONNRESET the peer left, EMFILE the limit of open files.",
            "ops",
            Query(
                per_second(ERRORS, "operation", "errno", errno=_FAILURE, path=only),
                "{{operation}} {{errno}}",
            ),
            stacked=True,
        ),
        graph(
            f"p99, {side}",
            "99 of 100 calls were quicker. A step up in one operation alone points at its peer; "
            "in all at once, at the machine (CPU, memory pressure).",
            "s",
            Query(quantile(0.99, "operation", path=only), "{{operation}}"),
        ),
        graph(
            f"In progress, {side}",
            "Calls entered and not yet returned. A line that only climbs: threads pile up in "
            "that call.",
            "short",
            Query(f"sum by (operation) ({select(IN_PROGRESS, path=only)})", "{{operation}}"),
        ),
        graph(
            f"Bytes, {side}",
            "Bytes per second that went through each operation.",
            "Bps",
            Query(per_second(BYTES, "operation", path=only), "{{operation}}"),
        ),
    ]
