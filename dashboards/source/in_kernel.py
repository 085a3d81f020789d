# SPDX-License-Identifier: MIT
"""In-kernel sockets: the kernel functions, and where the time of a call goes."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.source.board import board
from dashboards.source.panels import Column, Panel, Query, graph, heat_map, list_of
from dashboards.source.queries import average, matching, per_second, quantile
from tracer.exporter.metrics import DURATION, FUNCTION_BYTES, FUNCTION_DURATION, FUNCTION_ERRORS
from tracer.model.operations import FUNCTIONS

__all__ = ["in_kernel"]


def _layers(direction: str) -> tuple[str, str]:
    """The functions that send or receive: those of the socket layer, those of the protocols."""
    names = [function.name for function in FUNCTIONS if function.name.endswith(direction)]
    socket_layer = [name for name in names if name.startswith(("kernel_", "sock_"))]
    return "|".join(socket_layer), "|".join(name for name in names if name not in socket_layer)


def in_kernel() -> Dashboard:
    """Make the board."""
    made = board(
        "in-kernel",
        "In-kernel sockets",
        "Functions of the kernel's socket layers: sockets that code in the kernel uses "
        "(path=kernel), and how much of a call's time is spent in the system call, the socket "
        "layer and the protocol. Needs kprobes or fentry.",
        "function",
        "path",
        "transport",
    )
    for panel in _panels():
        made.with_panel(panel)
    return made


def _panels() -> list[Panel]:
    chosen = {"function": '=~"$function"'}
    by = ("function", "path")
    every = matching(".*")
    return [
        list_of(
            "Functions",
            "Every traced kernel function. If it is empty, this kernel has neither kprobes nor "
            "fentry; `lunatik-socket doctor` tells.",
            ["function", "path"],
            [
                Column(
                    "Runs/s", per_second(FUNCTION_DURATION, *by, suffix="_count", **chosen), "ops"
                ),
                Column("Mean", average(FUNCTION_DURATION, *by, **chosen), "s"),
                Column("p99", quantile(0.99, *by, metric=FUNCTION_DURATION, **chosen), "s"),
            ],
            sort="Runs/s",
        ),
        _split("sending", "sendmsg", "send|sendmsg"),
        _split("receiving", "recvmsg", "recv|recvmsg"),
        graph(
            "Calls from inside the kernel",
            "Operations of path=kernel: NVMe/TCP, NFS, Lunatik scripts. Most hosts have none.",
            "ops",
            Query(
                per_second(
                    DURATION, "operation", suffix="_count", operation=every, path='="kernel"'
                ),
                "{{operation}}",
            ),
        ),
        heat_map(
            "Function latency",
            "All chosen functions together; select one at the top of the board to see it alone.",
            FUNCTION_DURATION,
        ),
        graph(
            "Errors",
            "Runs that returned an error, by errno. ERESTARTSYS: a signal, or the end of the "
            "thread, interrupted a wait.",
            "ops",
            Query(
                per_second(FUNCTION_ERRORS, "function", "errno", **chosen), "{{function}} {{errno}}"
            ),
            stacked=True,
        ),
        graph(
            "Bytes",
            "Bytes per second through each function. The same bytes pass through several layers, "
            "so "
            "do not add the lines up.",
            "Bps",
            Query(per_second(FUNCTION_BYTES, "function", **chosen), "{{function}}"),
        ),
    ]


def _split(doing: str, direction: str, operations: str) -> Panel:
    socket_layer, protocols = _layers(direction)
    return graph(
        f"Where the time goes: {doing}",
        "Mean time of the system call, of the socket layer inside it, and of the protocol inside "
        "that. The difference between two lines is the cost of the upper layer alone.",
        "s",
        Query(
            average(DURATION, "operation", operation=matching(operations), path='="user"'),
            "system call: {{operation}}",
        ),
        Query(
            average(FUNCTION_DURATION, "function", function=matching(socket_layer)),
            "socket: {{function}}",
        ),
        Query(
            average(FUNCTION_DURATION, "function", function=matching(protocols)),
            "protocol: {{function}}",
        ),
    )
