# SPDX-License-Identifier: MIT
"""The table of peers, drawn with rich below the operations."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tracer.model.aggregate import Aggregate
from tracer.model.connections import Peer
from tracer.terminal import units
from tracer.terminal.peers import PeerRow, address_of, connect_durations
from tracer.terminal.rows import escaped

__all__ = ["peer_table"]

_PEER_WIDTH = 23  # of "192.168.100.200 on :443"; the column may be wider if there is room
_NUMBER_WIDTH = 7  # of "1.23 ms"


def peer_table(rows: Sequence[PeerRow], room: int, *, live: bool) -> RenderableType:
    """At most `room` rows; `live`: durations of the last interval, else since the start.

    A duration has a column only if a row has one, so that the rest fits into 80 columns. The median
    time to connect and that in the accept queue share a column: a client has one, a server the
    other.
    """
    shown = rows[:room]
    with_starts = any(_starts(row.total).count for row in shown)
    with_answers = any(row.total.answers.count for row in shown)
    drawn = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    drawn.add_column("process", no_wrap=True, overflow="ellipsis", max_width=12)
    drawn.add_column("role", no_wrap=True, min_width=6)
    width = max((len(address_of(row.total)) for row in shown), default=0)
    drawn.add_column(
        "peer", no_wrap=True, overflow="ellipsis", min_width=min(width, _PEER_WIDTH), max_width=25
    )
    drawn.add_column("open", justify="right", no_wrap=True, min_width=4)
    names = ["connect,\naccept"] * with_starts + ["answer\np50", "\np99"] * with_answers
    for name in names:
        drawn.add_column(name, justify="right", no_wrap=True, min_width=_NUMBER_WIDTH)
    drawn.add_column("trouble", no_wrap=True, overflow="ellipsis")
    for row in shown:
        peer = (row.recent or Peer(*row.total.key)) if live else row.total
        durations = [_quantile(_starts(peer), 0.5)] if with_starts else []
        durations += [_quantile(peer.answers, q) for q in (0.5, 0.99)] if with_answers else []
        drawn.add_row(
            Text(_process(row.total)),
            Text(row.total.role),
            Text(address_of(row.total)),
            Text(str(row.total.open)),
            *durations,
            Text(", ".join(f"{units.number(n)} {what}" for n, what in row.trouble()), style="red"),
            style="dim" if live and row.recent is None else "",
        )
    more = len(rows) - len(shown)
    return Group(drawn, Text(f"and {more} more peers", style="dim")) if more else drawn


def _process(peer: Peer) -> str:
    return escaped(peer.comm) if peer.pid is None else f"{escaped(peer.comm)}[{peer.pid}]"


def _starts(peer: Peer) -> Aggregate:
    """How long connections took to begin: to connect, or to be accepted."""
    return connect_durations(peer) if peer.role == "client" else peer.accept_waits


def _quantile(aggregate: Aggregate, quantile: float) -> Text:
    return Text(units.duration(aggregate.quantile_seconds(quantile)))
