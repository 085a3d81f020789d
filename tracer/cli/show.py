# SPDX-License-Identifier: MIT
"""What the worker does from the first numbers to the last ones (`tracer.cli.worker`)."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from tracer.cli.options import TraceOptions
from tracer.cli.worker import Orders
from tracer.process.hang_up import outliving_terminal
from tracer.process.journal import say
from tracer.process.output import Relay
from tracer.session import NOT_IN_THIS_KERNEL, Session
from tracer.terminal.json_output import JsonWriter
from tracer.terminal.rows import Header
from tracer.terminal.view import LinesView, LiveView, NoView, View, print_summary

if TYPE_CHECKING:
    from tracer.exporter.http.routes import MetricsServer

__all__ = ["Show", "view"]


@dataclass
class Show:
    """Serves the metrics, shows the numbers, prints and writes the last ones.

    `prepare` and `run` are for the worker. `stream` is what it prints to, `make_view` makes what it
    shows while it runs.
    """

    options: TraceOptions
    header: Header
    stream: TextIO
    writers: list[JsonWriter]
    server: "MetricsServer | None"
    relay: Relay | None
    make_view: Callable[[], View]

    def descriptors(self, listener: socket.socket | None) -> Iterator[int]:
        """What must stay open in the worker."""
        for one in (listener, self.relay, *self.writers):
            if one is not None:
                yield one.fileno()

    def prepare(self) -> None:
        """Import what is needed later: the worker may not be allowed to read the files."""
        self._view = self.make_view()
        if isinstance(self._view, LiveView):
            import_module("rich.live")
            import_module("rich.table")

    def run(self, orders: Orders) -> int:
        """Do it until the order to finish comes."""
        session, view = orders.session, self._view
        with ExitStack() as stack:
            if self.server is not None:
                self.server.start()
                stack.callback(self.server.stop)
            first = session.snapshot()
            stack.callback(view.end)
            with outliving_terminal():
                _warn_of_failures(session)
                view.begin(first)
            orders.ready()
            if self.relay is not None:
                self.relay.start(view.say)
            shows_last = self._until_told_to_finish(orders)
            last = session.snapshot()
            if self.relay is not None:
                self.relay.finish()
            with outliving_terminal():
                if shows_last:
                    view.finish(last)
                view.end()
                if shows_last and not self.options.quiet:
                    print_summary(self.header, first, last, self.stream)
            for writer in self.writers:
                writer.write(last)
        return 0

    def _until_told_to_finish(self, orders: Orders) -> bool:
        """Update the view at each interval; return whether to show the last numbers."""
        interval = self.options.interval
        tick = time.monotonic() + interval
        while (order := orders.wait(tick)) is None:
            snapshot = orders.session.snapshot()
            with outliving_terminal():
                self._view.update(snapshot)
            tick = max(tick + interval, time.monotonic())
        return order


def view(options: TraceOptions, header: Header, stream: TextIO, *, live: bool) -> View:
    """What the options ask for; `live` is a table that is redrawn in place."""
    if live:
        return LiveView(stream, header)
    # In a terminal, plain lines would mix with the command's output; --no-live asks for them.
    if options.quiet or (stream.isatty() and options.live is not False):
        return NoView()
    return LinesView(stream, header)


def _warn_of_failures(session: Session) -> None:
    """Print one line for all probes that could not be attached; the others count anyway."""
    by_reason: dict[str, list[str]] = {}
    for probe, reason in session.failures.items():
        if reason != NOT_IN_THIS_KERNEL:
            by_reason.setdefault(reason, []).append(probe)
    if by_reason:
        text = "; ".join(f"{', '.join(probes)} ({why})" for why, probes in by_reason.items())
        say(f"not attached: {text}")
