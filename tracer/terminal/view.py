# SPDX-License-Identifier: MIT
"""How the numbers are shown while tracing (live table, plain lines, nothing) and at the end.

rich is slow to load, so it is imported where it is first used.
"""

import math
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from tracer.model.connections import Peer
from tracer.model.snapshot import Snapshot, difference, merge
from tracer.terminal import rows as table
from tracer.terminal.peers import PeerRow, connect_durations, peer_rows
from tracer.terminal.rows import Header

if TYPE_CHECKING:
    from rich.live import Live

__all__ = [
    "Interval",
    "LinesView",
    "LiveView",
    "NoView",
    "View",
    "is_live_terminal",
    "print_summary",
]


class View(Protocol):
    """The interface of everything that shows a trace's numbers."""

    def begin(self, snapshot: Snapshot) -> None:
        """Take the first snapshot: the numbers shown count from here."""

    def update(self, snapshot: Snapshot) -> None:
        """Show what was counted since the last snapshot."""

    def say(self, line: str) -> None:
        """Show a line that the traced command printed."""

    def finish(self, snapshot: Snapshot) -> None:
        """Show the last interval, which may be shorter than the others."""

    def end(self) -> None:
        """Restore the terminal. Safe to call twice, and without `finish`."""


def is_live_terminal(stream: TextIO) -> bool:
    """Whether `stream` is a terminal on which a table can be redrawn in place."""
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=stream)
    return stream.isatty() and console.is_terminal and not console.is_dumb_terminal


class NoView:
    """Shows nothing but the lines that the traced command prints."""

    def begin(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def say(self, line: str) -> None:
        """Print it on standard error."""
        print(line, file=sys.stderr, flush=True)

    def finish(self, snapshot: Snapshot) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class Interval:
    """Keeps the last snapshot, to know what was counted since."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        self._start_ns = snapshot.monotonic_ns

    def rows(self, snapshot: Snapshot) -> list[table.Row]:
        """Return the rows of `snapshot`; `recent` is what was counted since the last call."""
        seconds = max(1, snapshot.monotonic_ns - self._last.monotonic_ns) / 1e9
        recent = difference(self._last, snapshot)
        self._last = snapshot
        return table.rows(snapshot, recent, seconds)

    def peers(self, snapshot: Snapshot) -> list[PeerRow]:
        """Return the rows of the peers, like `rows`; call it before that."""
        return peer_rows(self._last.connections, snapshot)

    def uptime_seconds(self) -> float:
        """Return the time from the first snapshot to the last one."""
        return (self._last.monotonic_ns - self._start_ns) / 1e9


class LinesView(NoView):
    """Plain lines of `key=value`: for each interval, the series that counted something."""

    def __init__(self, stream: TextIO, header: Header) -> None:
        self._stream = stream
        self._header = header

    def begin(self, snapshot: Snapshot) -> None:
        """Print what is traced, in lines that begin with `#`."""
        self._interval = Interval(snapshot)
        self._in_flight: dict[tuple[str, str, str, str | None], int] = {}
        header = self._header
        metrics = f"; metrics on {header.metrics_url}" if header.metrics_url else ""
        lines = (f"tracing {header.subject}{metrics}", table.at_start(snapshot), *header.hints)
        for line in filter(None, lines):
            print(f"# {line}", file=self._stream, flush=True)

    def update(self, snapshot: Snapshot) -> None:
        """Print the series that changed."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        in_flight = {key: one.calls for key, one in snapshot.in_flight_by_label().items()}
        peers = [
            _peer_line(now, row.recent) for row in self._interval.peers(snapshot) if row.recent
        ]
        lines = [
            _line(now, row)
            for row in self._interval.rows(snapshot)
            if row.recent or in_flight.get(row.key, 0) != self._in_flight.get(row.key, 0)
        ]
        self._in_flight = in_flight
        if lines + peers:
            print("\n".join(lines + peers), file=self._stream, flush=True)

    def finish(self, snapshot: Snapshot) -> None:
        """Print the series that changed since the last full interval."""
        self.update(snapshot)


def _line(now: str, row: table.Row) -> str:
    """In the units of the metrics: seconds and bytes."""
    recent = row.recent or merge([])
    _, errno_name = table.top_error(recent)
    fields = {
        "time": now,
        "operation": row.name,
        "path": row.path,
        "transport": row.transport,
        "label": _quoted(row.label),
        "calls": str(recent.count),
        "rate": f"{row.per_second:.1f}",
        "p50_seconds": _seconds(recent.quantile_seconds(0.5)),
        "p99_seconds": _seconds(recent.quantile_seconds(0.99)),
        "bytes": str(recent.bytes),
        "errors": str(sum(recent.errors.values())),
        "errno": errno_name or None,
        "in_progress": None if row.in_flight is None else str(row.in_flight),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)


def _peer_line(now: str, recent: Peer) -> str:
    connects = connect_durations(recent)
    failed = recent.failed_connects
    fields = {
        "time": now,
        "process": _quoted(recent.comm),
        "pid": None if recent.pid is None else str(recent.pid),
        "role": recent.role,
        "transport": recent.transport,
        "peer": recent.peer,
        "port": str(recent.port),
        "open": str(recent.open),
        "connects": str(connects.count),
        "connect_p99_seconds": _seconds(connects.quantile_seconds(0.99)),
        "failed": str(sum(failed.values())),
        "result": max(failed, key=lambda result: (failed[result], result), default=None),
        "answers": str(recent.answers.count),
        "answer_p50_seconds": _seconds(recent.answers.quantile_seconds(0.5)),
        "answer_p99_seconds": _seconds(recent.answers.quantile_seconds(0.99)),
        "retransmits": str(recent.retransmits),
        "resets": str(recent.resets_sent + recent.resets_received),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)


def _quoted(label: str | None) -> str | None:
    if label is None or (label and label.isprintable() and not set(label) & set(" \"'=\\")):
        return label
    text = table.escaped(label).replace('"', '\\"')
    return f'"{text}"'


def _seconds(value: float) -> str | None:
    if math.isnan(value):
        return None  # there was no call
    return f"{value:.9f}" if math.isfinite(value) else "inf"


class LiveView:
    """The table, redrawn in place at every interval."""

    def __init__(self, stream: TextIO, header: Header) -> None:
        self._stream = stream
        self._header = header
        self._live: Live | None = None

    def begin(self, snapshot: Snapshot) -> None:
        """Draw the empty table."""
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        self._interval = Interval(snapshot)
        self._live = Live(
            console=Console(file=self._stream, highlight=False),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()
        self.update(snapshot)

    def update(self, snapshot: Snapshot) -> None:
        """Draw the numbers of the last interval."""
        from tracer.terminal.tables import live_table  # noqa: PLC0415

        if self._live is None:
            return
        peers = self._interval.peers(snapshot)
        rows = self._interval.rows(snapshot)
        drawn = live_table(
            self._header,
            snapshot,
            rows,
            self._interval.uptime_seconds(),
            height=self._live.console.height,
            peers=peers,
        )
        self._live.update(drawn, refresh=True)

    def say(self, line: str) -> None:
        """Print it above the table."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def finish(self, snapshot: Snapshot) -> None:
        """Do nothing: the summary has these numbers."""

    def end(self) -> None:
        """Remove the table; the summary is printed in its place."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def print_summary(header: Header, first: Snapshot, last: Snapshot, stream: TextIO) -> None:
    """Print what was counted from `first` to `last`."""
    from rich.console import Console  # noqa: PLC0415

    from tracer.terminal.tables import summary  # noqa: PLC0415

    seconds = (last.monotonic_ns - first.monotonic_ns) / 1e9
    rows = table.rows(last, difference(first, last), seconds)
    peers = peer_rows(first.connections, last)
    Console(file=stream, highlight=False).print(summary(header, last, rows, seconds, peers))
    stream.flush()
