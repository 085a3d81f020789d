# SPDX-License-Identifier: MIT
"""Connections: who talks to whom, how connects end, how long answers take."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.source.board import board
from dashboards.source.panels import Column, Panel, Query, graph, heat_map, list_of
from dashboards.source.queries import average, per_second, quantile, select
from tracer.exporter import metrics

__all__ = ["connections"]

_CHOSEN = {"comm": '=~"$comm"', "peer": '=~"$peer"'}
_PEER = ("comm", "peer", "port")


def connections() -> Dashboard:
    """Make the board."""
    made = board(
        "connections",
        "Connections",
        "Which process talks to which peer: connects by result, answer times, accept waits, open "
        "connections, retransmits and resets. Needs --connections.",
        "comm",
        "peer",
        "transport",
    )
    for panel in _panels():
        made.with_panel(panel)
    return made


def _panels() -> list[Panel]:
    connects, answers = metrics.CONNECT_DURATION, metrics.ANSWER_DURATION
    failed = {"result": '!="ok"', **_CHOSEN}
    return [
        list_of(
            "Peers",
            "Every process and peer. A long answer of a client is the peer's time, a long answer "
            "of a server is its own. Empty if the tracer runs without --connections.",
            [*_PEER],
            [
                Column("Open", f"sum by (comm, peer, port) ({_open()})"),
                Column("Connects/s", per_second(connects, *_PEER, suffix="_count", **_CHOSEN)),
                Column("Failed/s", per_second(connects, *_PEER, suffix="_count", **failed)),
                Column("Answer p50", quantile(0.5, *_PEER, metric=answers, **_CHOSEN), "s"),
                Column("Answer p99", quantile(0.99, *_PEER, metric=answers, **_CHOSEN), "s"),
            ],
            sort="Open",
        ),
        graph(
            "Connects by result",
            "How connects ended. ECONNREFUSED: nothing listens there. ETIMEDOUT: no answer to the "
            "SYN. aborted: the program gave up first, mostly by a time limit of its own.",
            "ops",
            Query(per_second(connects, "result", suffix="_count", **_CHOSEN), "{{result}}"),
            stacked=True,
        ),
        graph(
            "Time to connect",
            "The 99th percentile of all connects to each peer. Steps at 1 s, 3 s and 7 s are lost "
            "SYNs: look for packet loss, or for a full accept queue at the peer.",
            "s",
            Query(quantile(0.99, "peer", metric=connects, **_CHOSEN), "{{peer}}"),
        ),
        heat_map(
            "Answer times",
            "All answers together; choose a process or a peer at the top of the board to see it "
            "alone.",
            answers,
        ),
        graph(
            "Answer time by peer",
            "The 99th percentile: for a client how long the peer took, for a server how long it "
            "took itself.",
            "s",
            Query(
                quantile(0.99, "comm", "role", "peer", metric=answers, **_CHOSEN),
                "{{comm}} {{role}} {{peer}}",
            ),
        ),
        graph(
            "Accept wait",
            "How long established connections waited for accept, 99th percentile. If it grows, "
            "the server does not accept fast enough, and its accept queue will overflow.",
            "s",
            Query(quantile(0.99, "comm", metric=metrics.ACCEPT_WAIT, **_CHOSEN), "{{comm}}"),
        ),
        graph(
            "Open connections",
            "Established and not closed by their process. If it only grows, connections are not "
            "closed.",
            "short",
            Query(f"sum by (comm, role) ({_open()})", "{{comm}} {{role}}"),
        ),
        graph(
            "Accept queues",
            "Connections that wait to be accepted, and the limit of each listener. At the limit, "
            "further connections are dropped.",
            "short",
            Query(_sum_by_port(metrics.ACCEPT_QUEUE), "{{comm}} :{{port}} waiting"),
            Query(_sum_by_port(metrics.ACCEPT_QUEUE_LIMIT), "{{comm}} :{{port}} limit"),
        ),
        graph(
            "Dropped by listeners",
            "Connections and SYNs dropped, mostly since the accept queue was full: accept faster, "
            "or raise the backlog (listen(2), net.core.somaxconn).",
            "ops",
            Query(per_second(metrics.ACCEPT_DROPS, "comm", "port"), "{{comm}} :{{port}}"),
        ),
        graph(
            "Life of a connection",
            "Mean time from established to closed. If it is short, the client may open a new "
            "connection for each request.",
            "s",
            Query(
                average(metrics.CONNECTION_DURATION, "comm", "role", **_CHOSEN),
                "{{comm}} {{role}}",
            ),
        ),
        graph(
            "Retransmits",
            "Segments sent again, by peer: packets are lost on the way, or the peer is overloaded.",
            "ops",
            Query(per_second(metrics.RETRANSMITS, "peer", **_CHOSEN), "{{peer}}"),
        ),
        graph(
            "Resets",
            "Connections reset, and refused connects, by process, peer and direction.",
            "ops",
            Query(
                per_second(metrics.RESETS, "comm", "peer", "direction", **_CHOSEN),
                "{{comm}} {{peer}} {{direction}}",
            ),
        ),
        graph(
            "Counted under other",
            "Sockets whose peer found no room: there is room for 512 peers. They are counted under "
            "other. If this is above zero, trace fewer processes.",
            "ops",
            Query(per_second(metrics.OTHER_PEER, "instance"), "{{instance}}"),
        ),
    ]


def _sum_by_port(metric: metrics.Metric) -> str:
    return f"sum by (comm, port) ({select(metric)})"


def _open() -> str:
    return select(metrics.CONNECTIONS_OPEN, **_CHOSEN)
