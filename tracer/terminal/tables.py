# SPDX-License-Identifier: MIT
"""The live table and the summary, drawn with rich. Both fit into 80 columns."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.snapshot import Aggregate, Snapshot
from tracer.terminal import units
from tracer.terminal.peer_table import peer_table
from tracer.terminal.peers import PeerRow
from tracer.terminal.rows import Header, Row, Totals, at_start, escaped, top_error, totals, visible

__all__ = ["live_table", "summary"]

_LINES_AROUND = 4  # two for the column heads, one for "and N more", one for the cursor
_PEERS_OF_SUMMARY = 30


def live_table(
    header: Header,
    snapshot: Snapshot,
    rows: list[Row],
    uptime_seconds: float,
    *,
    height: int,
    peers: Sequence[PeerRow] = (),
) -> RenderableType:
    """The last interval: as many rows as fit into `height` lines, the busiest first.

    `peers` take up to half of the lines, and what the operations leave.
    """
    above = _header_lines(header, snapshot, uptime_seconds)
    room = max(1, height - _LINES_AROUND - len(above))
    room_for_peers = 0
    if peers:
        rest = max(room // 2, room - len(rows)) - _LINES_AROUND
        room_for_peers = max(1, min(len(peers), rest))
        room = max(1, room - room_for_peers - _LINES_AROUND)
    shown = visible(rows, room)
    parts: list[RenderableType] = [
        *above,
        _table(shown, snapshot.label_name, live=True),
    ]
    if not rows:
        parts.append(Text("no socket operation yet", style="dim"))
    if len(rows) > room:
        stuck = sum(row.is_stuck for row in rows) - sum(row.is_stuck for row in shown)
        in_flight = f", {stuck} of them with calls in flight" if stuck else ""
        parts.append(Text(f"and {len(rows) - room} more, less busy{in_flight}", style="dim"))
    if peers:
        parts += [Text(), peer_table(peers, room_for_peers, live=True)]
    return Group(*parts)


def summary(
    header: Header,
    snapshot: Snapshot,
    rows: list[Row],
    seconds: float,
    peers: Sequence[PeerRow] = (),
) -> RenderableType:
    """All that was counted, the most frequent operations first."""
    everything = totals(snapshot)
    ordered = sorted(rows, key=lambda row: -row.total.count)
    title = Text.assemble(
        (header.subject, "bold"),
        f": {_counted(everything, ', ')} in {units.duration(seconds)}; ",
        _lost(snapshot),
    )
    above = [title, *_at_start(snapshot)]
    if not rows:
        return Group(*above, Text("no socket operation was seen", style="dim"))
    below = [Text(), peer_table(peers, _PEERS_OF_SUMMARY, live=False)] if peers else []
    return Group(*above, _table(ordered, snapshot.label_name, live=False), *below)


def _header_lines(header: Header, snapshot: Snapshot, uptime_seconds: float) -> list[Text]:
    everything = totals(snapshot)
    mechanisms = sorted({probe.mechanism for probe in snapshot.probes if probe.attached})
    state = Text(" · ").join(
        [
            Text("+".join(mechanisms) or "nothing attached"),
            Text(header.metrics_url or "no metrics"),
            Text(units.uptime(uptime_seconds)),
            *([_lost(snapshot)] if not totals(snapshot).lost else []),
        ]
    )
    lines = [
        Text.assemble(("tracing ", "dim"), (header.subject, "bold")),
        state,
        Text(_counted(everything, " · ")),
    ]
    if everything.lost:
        lines.append(_lost(snapshot))
    lines += _at_start(snapshot)
    return [*lines, *(Text(hint, style="cyan") for hint in header.hints)]


def _counted(everything: Totals, separator: str) -> str:
    calls, errors = (
        f"{units.number(count)} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((everything.calls, "call"), (everything.errors, "error"))
    )
    return separator.join((calls, errors, units.size(everything.bytes)))


def _lost(snapshot: Snapshot) -> Text:
    lost = {reason: count for reason, count in snapshot.lost.items() if count}
    if not lost:
        return Text("nothing lost")
    reasons = ", ".join(f"{count} {reason}" for reason, count in lost.items())
    return Text(f"lost: {reasons}", style="bold red")


def _at_start(snapshot: Snapshot) -> list[Text]:
    """One line or none, cut at the width of the terminal."""
    text = at_start(snapshot)
    return [Text(text, style="dim", no_wrap=True, overflow="ellipsis")] if text else []


def _table(rows: list[Row], label_name: str | None, *, live: bool) -> Table:
    # With a label there is little room: then the path has a column only if there are two paths.
    with_path = label_name is None or any(row.path != "user" for row in rows)
    drawn = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    drawn.add_column("operation", no_wrap=True, min_width=11)
    if label_name:
        drawn.add_column(label_name, no_wrap=True, overflow="ellipsis", max_width=15)
    drawn.add_column("trans-\nport", no_wrap=True)
    if with_path:
        drawn.add_column("path", no_wrap=True)
    for name in ("rate/s" if live else "calls", "p50", "p99"):
        drawn.add_column(name, justify="right", no_wrap=True, min_width=7)
    drawn.add_column("errors")  # the only column that may be cut
    drawn.add_column("bytes/s" if live else "bytes", justify="right", no_wrap=True, min_width=8)
    drawn.add_column("in\nflight", justify="right", no_wrap=True)
    for row in rows:
        label = [_text(row.label)] if label_name else []
        path = [Text(row.path)] if with_path else []
        cells = _live_cells(row) if live else _summary_cells(row)
        idle = live and not row.recent
        drawn.add_row(
            Text(row.name), *label, Text(row.transport), *path, *cells, style="dim" if idle else ""
        )
    return drawn


def _text(label: str | None) -> Text:
    return Text(escaped(label or ""))


def _live_cells(row: Row) -> list[Text]:
    recent = row.recent
    return [
        Text(units.rate(row.per_second) if recent else units.NOTHING),
        *_quantiles(recent),
        _errors(row.total, fresh=bool(recent and recent.errors)),
        Text(units.size(row.bytes_per_second) if recent and recent.bytes else units.NOTHING),
        _in_flight(row),
    ]


def _summary_cells(row: Row) -> list[Text]:
    return [
        Text(units.number(row.total.count)),
        *_quantiles(row.total),
        _errors(row.total, fresh=True),
        Text(units.size(row.total.bytes) if row.total.bytes else units.NOTHING),
        _in_flight(row),
    ]


def _quantiles(aggregate: Aggregate | None) -> list[Text]:
    values = [aggregate.quantile_seconds(q) if aggregate else None for q in (0.5, 0.99)]
    return [Text(units.duration(value)) for value in values]


def _errors(aggregate: Aggregate, *, fresh: bool) -> Text:
    """The error to show since the start, so that none is missed; coloured while more come."""
    count, name = top_error(aggregate)
    others = "…" if len(aggregate.errors) > 1 else ""
    if not count:
        return Text()
    style = ("yellow" if name in EXPECTED_ERRNOS else "red") if fresh else ""
    text = f"{units.number(count)} {name}{others}"
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _in_flight(row: Row) -> Text:
    return Text("" if row.in_flight is None else str(row.in_flight))
