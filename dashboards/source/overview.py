# SPDX-License-Identifier: MIT
"""Overview: every operation, user space and in-kernel side by side, the worst first."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from dashboards.source.board import LINK_TO_OPERATION, board
from dashboards.source.panels import Column, Panel, Query, graph, list_of, number
from dashboards.source.queries import (
    WAITING,
    failing,
    failures,
    per_second,
    quantile,
    select,
)
from tracer.exporter.metrics import BYTES, DURATION, IN_PROGRESS, INFO, LOST

__all__ = ["overview"]

_BY = ("operation", "path")


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
    waiting = WAITING.replace("|", ", ")
    return [
        number(
            "Calls",
            "Socket operations per second. If they drop while the load stays the same, the server "
            "is stuck: see In flight.",
            per_second(DURATION, suffix="_count"),
            "ops",
        ),
        number(
            "Failing",
            "Share of calls that failed, not counting errnos that are no failures (EAGAIN, "
            "EINPROGRESS, EINTR and the like). If it is high, open the operation from the table "
            "below and read its errnos.",
            failing(),
            "percentunit",
            warn=0.01,
            alarm=0.05,
        ),
        number(
            "p99, calls that should not wait",
            "99 of 100 calls were faster. Operations that wait for a peer by design are left out "
            f"({waiting}). If it is high: full socket buffers (send), a slow peer or network "
            "(connect), or a busy CPU.",
            quantile(0.99, operation=f'!~"{WAITING}"'),
            "s",
            warn=0.01,
            alarm=0.1,
        ),
        number(
            "In flight",
            "Calls entered and not yet returned. Threads that wait for work count too (accept, "
            "recv, select). If it keeps growing, threads leak or a peer is stuck.",
            f"sum({select(IN_PROGRESS)})",
            "short",
        ),
        number(
            "Tracers",
            "Tracers that answer. If they are fewer than the hosts, the Tracer board shows which "
            "is "
            "missing.",
            f"count({select(INFO)})",
            "short",
        ),
        number(
            "Lost",
            "Calls that could not be counted in the last five minutes. Above 0, the other numbers "
            "are too low; the Tracer board says why.",
            f"sum(increase({select(LOST)}[5m]))",
            "short",
            warn=1,
            alarm=100,
        ),
    ]


def _worst() -> Panel:
    return list_of(
        "Operations, worst first",
        "One row for each operation and path; click a name to see it alone. The rows at the top "
        f"fail most. {WAITING.replace('|', ', ')} wait for a peer by design, so a long p99 is "
        "normal "
        "for them.",
        ["operation", "path"],
        [
            Column("Calls/s", per_second(DURATION, *_BY, suffix="_count"), "ops"),
            Column("Failing", failing(*_BY), "percentunit", warn=0.01, alarm=0.05),
            Column("p50", quantile(0.5, *_BY), "s"),
            Column("p99", quantile(0.99, *_BY), "s"),
            Column("In flight", f"sum by (operation, path) ({select(IN_PROGRESS)})"),
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
            "Failed calls per second, without errnos that are no failures. ECONNREFUSED: nothing "
            "listens there. ETIMEDOUT, EHOSTUNREACH: the network. EPIPE, ECONNRESET: the peer "
            "closed. EMFILE: the limit of open files.",
            "ops",
            Query(
                failures("operation", "errno", path=only),
                "{{operation}} {{errno}}",
            ),
            stacked=True,
        ),
        graph(
            f"p99, {side}",
            "99 of 100 calls were faster. If one operation alone gets slower, look at its peer; if "
            "all do at once, look at the machine (CPU, memory pressure).",
            "s",
            Query(quantile(0.99, "operation", path=only), "{{operation}}"),
        ),
        graph(
            f"In flight, {side}",
            "Calls entered and not yet returned. If a line only rises, more and more threads wait "
            "in that call.",
            "short",
            Query(f"sum by (operation) ({select(IN_PROGRESS, path=only)})", "{{operation}}"),
        ),
        graph(
            f"Bytes, {side}",
            "Bytes per second that each operation moved.",
            "Bps",
            Query(per_second(BYTES, "operation", path=only), "{{operation}}"),
        ),
    ]
