"""The life of a trace: start the command held, attach, let go, show, wait, sum up."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TextIO

from tracer.cli.address import shown
from tracer.cli.child import Child
from tracer.cli.options import TraceOptions
from tracer.cli.signals import Signals
from tracer.cli.view import Header, LinesView, LiveView, NoView, View, is_live_terminal
from tracer.config import Config, Filter
from tracer.session import Session
from tracer.snapshot import Snapshot, difference, to_json

__all__ = ["Subject", "trace"]

_ABSENT = "not in this kernel"  # no fault: kernels differ in what they inline and what they have
_GRACE_SECONDS = 10.0  # what a command has to end in after SIGTERM, before SIGKILL


@dataclass(frozen=True, slots=True)
class Subject:
    """What is traced: `text` says it in the header.

    With `command` that is started and followed with its children. `owns_terminal`: its output is
    what the user wants to see, and no live table is drawn over it unless asked for. `ours`: a
    server or script of this program, which must not outlive it.
    """

    text: str
    filter: Filter
    command: tuple[str, ...] | None = None
    ours: bool = False
    owns_terminal: bool = False
    hints: tuple[str, ...] = ()


def trace(
    subject: Subject,
    options: TraceOptions,
    make_view: Callable[[Header], View] | None = None,
) -> int:
    """Trace until the command ends, the time is up or a signal comes; return the exit status.

    `make_view` is for what shows the numbers in a way of its own.
    """
    with ExitStack() as stack:
        report = stack.enter_context(_json_files(options))
        stream = sys.stderr if options.json or subject.owns_terminal else sys.stdout
        live = _wants_live(subject, options, stream)
        relay = stack.enter_context(_Relay()) if subject.command and live else None
        child = _start(stack, subject, options, relay)
        session = stack.enter_context(Session(_config(subject, options, child)))
        signals = stack.enter_context(Signals())
        url = _serve_metrics(stack, options, session)
        header = Header(_text(subject, child), url, subject.hints)
        view = make_view(header) if make_view else _view(options, header, stream, live=live)
        _warn_of_failures(session)
        first = session.snapshot()
        stack.callback(view.end)
        view.begin(first)
        if child is not None:
            child.release()
        if relay is not None:
            relay.start(view.say)
        status = _Loop(session, view, signals, child, options=options, subject=subject).run()
        last = session.snapshot()
        if relay is not None:
            relay.finish()
        view.end()
        if not options.quiet and not (subject.ours and status in (2, 3)):
            _print_summary(header, first, last, stream)
        for write in report:
            write(last)
        return status


def _wants_live(subject: Subject, options: TraceOptions, stream: TextIO) -> bool:
    if options.quiet or options.live is False:
        return False
    if options.live is None and subject.owns_terminal:
        return False
    return is_live_terminal(stream)


def _start(
    stack: ExitStack, subject: Subject, options: TraceOptions, relay: "_Relay | None"
) -> Child | None:
    if subject.command is None:
        return None
    output = errors = None
    if relay is not None:
        output = errors = relay.write_end
    elif options.json:
        output = sys.stderr.fileno()  # standard output is for the numbers alone
    child = Child(subject.command, dies_with_us=subject.ours, output=output, errors=errors)
    stack.enter_context(child)
    if relay is not None:
        relay.close_write_end()
    return child


def _config(subject: Subject, options: TraceOptions, child: Child | None) -> Config:
    chosen = subject.filter
    if child is not None:
        chosen = replace(chosen, pids=(child.pid,), follow_forks=True)
    return Config(
        filter=chosen,
        operations=options.operation,
        mechanism=options.mechanism,
        label=options.by,
        tracer_pid=os.getpid(),
    )


def _text(subject: Subject, child: Child | None) -> str:
    return f"{subject.text} (pid {child.pid})" if child is not None else subject.text


def _serve_metrics(stack: ExitStack, options: TraceOptions, session: Session) -> str | None:
    if options.metrics is None:
        return None
    from tracer.exporter.server import MetricsServer  # noqa: PLC0415

    server = MetricsServer(options.metrics, session.snapshot)
    server.start()
    stack.callback(server.stop)
    return f"http://{shown(server.address)}/metrics"


def _view(options: TraceOptions, header: Header, stream: TextIO, *, live: bool) -> View:
    if live:
        return LiveView(stream, header)
    # A command's own words are not broken up by ours; --no-live asks for the lines.
    if options.quiet or (stream.isatty() and options.live is not False):
        return NoView()
    return LinesView(stream, header)


def _warn_of_failures(session: Session) -> None:
    """One line for all that could not be attached; the rest is counted all the same."""
    by_reason: dict[str, list[str]] = {}
    for probe, reason in session.failures.items():
        if reason != _ABSENT:
            by_reason.setdefault(reason, []).append(probe)
    if by_reason:
        text = "; ".join(f"{', '.join(probes)} ({why})" for why, probes in by_reason.items())
        print(f"lunatik-socket: not attached: {text}", file=sys.stderr)


@contextmanager
def _json_files(options: TraceOptions) -> Iterator[list[Callable[[Snapshot], None]]]:
    """Yield what writes the final numbers; a file that cannot be written fails here, at once."""
    with ExitStack() as stack:
        writers: list[Callable[[Snapshot], None]] = []
        if options.output is not None:
            file = stack.enter_context(_writable(options.output))
            writers.append(lambda last: _write(last, file))
        if options.json:
            writers.append(lambda last: print(_json(last), flush=True))
        yield writers


def _json(last: Snapshot) -> str:
    return json.dumps(to_json(last), allow_nan=False)


def _writable(path: str) -> FileIO:
    try:
        return Path(path).open("ab", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(last: Snapshot, file: FileIO) -> None:
    rest = memoryview(f"{_json(last)}\n".encode())
    try:
        if Path(file.name).is_file():
            file.truncate(0)  # what was there goes only now that there is something better
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise _unwritable(str(file.name), error) from error


def _unwritable(path: str, error: OSError) -> OSError:
    from tracer.cli.entry import one_line  # noqa: PLC0415

    cause = one_line(OSError(error.errno, error.strerror)).partition(": ")[2]
    return OSError(error.errno, f'cannot write "{path}": {cause}; choose another --output')


class _Relay:
    """Takes the lines of a command's output to where they do not run into the live table."""

    def __enter__(self) -> "_Relay":
        self._read_end, self.write_end = os.pipe()
        self._thread: threading.Thread | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self.close_write_end()
        if self._thread is None:
            os.close(self._read_end)

    def close_write_end(self) -> None:
        """Leave it to the command, so that its end is seen."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def start(self, say: Callable[[str], None]) -> None:
        """Pass lines on from now."""
        # A daemon: a grandchild may keep the pipe open for longer than we live.
        self._thread = threading.Thread(target=self._pass_on, args=(say,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the last lines, but not for a grandchild that holds the pipe open."""
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def _pass_on(self, say: Callable[[str], None]) -> None:
        with open(self._read_end, errors="replace") as lines:
            for line in lines:
                say(line.rstrip("\n"))


class _Loop:
    """Waits for the next of: a tick, a signal, the command's end, the end of the time."""

    def __init__(
        self,
        session: Session,
        view: View,
        signals: Signals,
        child: Child | None,
        *,
        options: TraceOptions,
        subject: Subject,
    ) -> None:
        self._session, self._view, self._signals, self._child = session, view, signals, child
        self._interval = options.interval
        self._pids: Sequence[int] = () if subject.filter.follow_forks else subject.filter.pids
        self._stop_at = time.monotonic() + options.duration if options.duration else None
        self._stopping = False
        self._status: int | None = None

    def run(self) -> int:
        """Return the exit status."""
        tick = time.monotonic() + self._interval
        while not self._is_over():
            now = time.monotonic()
            if self._stop_at is not None and now >= self._stop_at:
                self._time_is_up()
                continue
            if now >= tick:
                self._view.update(self._session.snapshot())
                tick = max(tick + self._interval, now)
            until = tick if self._stop_at is None else min(tick, self._stop_at)
            arrived = self._signals.wait(until - time.monotonic())
            if arrived is not None and arrived.number != signal.SIGCHLD:
                self._signalled(arrived.number, to_group=arrived.to_group)
        return self._status or 0

    def _is_over(self) -> bool:
        if self._status is not None:
            return True
        if self._child is not None:
            self._status = self._child.poll()
            if self._stopping and self._status in (128 + signal.SIGTERM, 128 + signal.SIGKILL):
                self._status = 0  # it ended as the --duration asked for
        elif self._pids and not any(Path(f"/proc/{pid}").is_dir() for pid in self._pids):
            self._status = 0
        return self._status is not None

    def _time_is_up(self) -> None:
        if self._child is None:
            self._status = 0
        else:
            self._child.send(signal.SIGKILL if self._stopping else signal.SIGTERM)
            self._stopping = True
            self._stop_at = time.monotonic() + _GRACE_SECONDS

    def _signalled(self, number: int, *, to_group: bool) -> None:
        if self._child is None:
            self._status = 0
        elif not to_group:
            self._child.send(number)


def _print_summary(header: Header, first: Snapshot, last: Snapshot, stream: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415

    from tracer.cli import table  # noqa: PLC0415
    from tracer.cli.draw import summary  # noqa: PLC0415

    seconds = (last.monotonic_ns - first.monotonic_ns) / 1e9
    rows = table.rows(last, difference(first, last), seconds)
    Console(file=stream, highlight=False).print(summary(header, last, rows, seconds))
    stream.flush()
