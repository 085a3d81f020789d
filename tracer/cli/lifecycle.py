# SPDX-License-Identifier: MIT
"""A trace from start to end: hold the command, attach, release it, show, wait, summarize."""

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from errno import EADDRINUSE
from syslog import LOG_INFO
from typing import TYPE_CHECKING, TextIO

from tracer.cli.loop import Loop
from tracer.cli.options import TraceOptions, shown
from tracer.errors import TracerError, UsageError
from tracer.model.config import Config, Filter
from tracer.process.command import StartedCommand
from tracer.process.hang_up import outliving_terminal
from tracer.process.journal import in_journal, log_to_stderr, say
from tracer.process.output import Relay
from tracer.process.service_manager import ServiceManager, passed_listener
from tracer.process.signals import Signals
from tracer.session import NOT_IN_THIS_KERNEL, Session
from tracer.terminal.json_output import json_writers
from tracer.terminal.rows import Header
from tracer.terminal.view import (
    LinesView,
    LiveView,
    NoView,
    View,
    is_live_terminal,
    print_summary,
)

if TYPE_CHECKING:
    from tracer.exporter.http.config_file import WebConfigFile

__all__ = ["METRICS_URL", "Subject", "trace"]

METRICS_URL = "{metrics}"  # in a hint
_ANY_URL = "http://example.org/"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is traced; `text` names it in the header.

    `command` is started and followed with its children. `owns_terminal`: the user wants to see its
    output, so no live table is drawn unless asked for. `ours`: it is a server or script of this
    program and must end with it. In `hints`, METRICS_URL stands for the URL of the metrics, or for
    some URL if none are served.
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

    `make_view` replaces the view that the options ask for.
    """
    manager = ServiceManager()
    if in_journal():
        log_to_stderr("INFO", "%(message)s")
    web = _web_config(options)
    with ExitStack() as stack:
        stack.callback(manager.stopping)
        writers = stack.enter_context(json_writers(to_stdout=options.json, path=options.output))
        stream = sys.stderr if options.json or subject.owns_terminal else sys.stdout
        live = _wants_live(subject, options, stream)
        relay = stack.enter_context(Relay()) if subject.command and live else None
        child = _start(stack, subject, options, relay)
        session = stack.enter_context(Session(_config(subject, options, child)))
        signals = stack.enter_context(Signals())
        url = _serve_metrics(stack, options, session, web)
        header = Header(_text(subject, child), url, _hints(subject, url))
        view = make_view(header) if make_view else _view(options, header, stream, live=live)
        first = session.snapshot()
        stack.callback(view.end)
        with outliving_terminal():
            _warn_of_failures(session)
            view.begin(first)
        if child is not None:
            child.release()
        if relay is not None:
            relay.start(view.say)
        state = f"tracing {header.subject}; " + (f"metrics on {url}" if url else "no metrics")
        manager.ready(state)
        status = Loop(
            session,
            view,
            signals,
            child,
            interval=options.interval,
            duration=options.duration,
            pids=_awaited(subject.filter),
            manager=manager,
            reload=lambda: _reload(manager, state),
        ).run()
        last = session.snapshot()
        if relay is not None:
            relay.finish()
        failed_to_serve = _failed_to_serve(subject, status)
        with outliving_terminal():
            if not failed_to_serve:
                view.finish(last)
            view.end()
            if not options.quiet and not failed_to_serve:
                print_summary(header, first, last, stream)
        for write in writers:
            write(last)
        return status


def _reload(manager: ServiceManager, state: str) -> None:
    """Answer SIGHUP under a service manager; nothing that `trace` reads at the start changes."""
    manager.reloading()
    say("reloaded; a change of the configuration file takes effect at a restart", LOG_INFO)
    manager.ready(state)


def _awaited(chosen: Filter) -> tuple[int, ...]:
    """The trace also ends when these processes have ended."""
    # With --follow-children their descendants may still run, and are not known here.
    return () if chosen.follow_forks else chosen.pids


def _failed_to_serve(subject: Subject, status: int) -> bool:
    """A server that could not start has printed the reason; a summary would only hide it."""
    return subject.ours and not subject.owns_terminal and status in (2, 3)


def _wants_live(subject: Subject, options: TraceOptions, stream: TextIO) -> bool:
    if options.quiet or options.live is False:
        return False
    if options.live is None and subject.owns_terminal:
        return False
    return is_live_terminal(stream)


def _start(
    stack: ExitStack, subject: Subject, options: TraceOptions, relay: Relay | None
) -> StartedCommand | None:
    if subject.command is None:
        return None
    output = errors = None
    if relay is not None:
        output = errors = relay.write_end
    elif options.json:
        output = sys.stderr.fileno()  # standard output is only for the JSON
    child = StartedCommand(subject.command, dies_with_us=subject.ours, output=output, errors=errors)
    stack.enter_context(child)
    if relay is not None:
        relay.close_write_end()
    return child


def _config(subject: Subject, options: TraceOptions, child: StartedCommand | None) -> Config:
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


def _text(subject: Subject, child: StartedCommand | None) -> str:
    return f"{subject.text} (pid {child.pid})" if child is not None else subject.text


def _hints(subject: Subject, url: str | None) -> tuple[str, ...]:
    return tuple(hint.replace(METRICS_URL, url or _ANY_URL) for hint in subject.hints)


def _web_config(options: TraceOptions) -> "WebConfigFile | None":
    """Read the web configuration; a wrong one is told before anything is attached."""
    if options.web_config_file is None:
        return None
    from tracer.exporter.http.config_file import WebConfigFile  # noqa: PLC0415

    if options.metrics is None:
        raise UsageError("serve metrics", cause="--web.config.file needs --metrics ADDR:PORT")
    return WebConfigFile(options.web_config_file)


def _serve_metrics(
    stack: ExitStack, options: TraceOptions, session: Session, web: "WebConfigFile | None"
) -> str | None:
    """Return the URL. If the default port is in use, as by another tracer, take a free one."""
    if options.metrics is None:
        return None
    from tracer.exporter.http.routes import MetricsServer  # noqa: PLC0415

    server = MetricsServer(
        options.metrics, session.snapshot, web, options.web_host, passed_listener()
    )
    try:
        server.start()
    except TracerError as error:
        server.stop()
        if options.metrics_given or error.errno != EADDRINUSE:
            raise
        free_port = (options.metrics[0], 0)
        server = MetricsServer(free_port, session.snapshot, web, options.web_host)
        server.start()
        taken, free = shown(options.metrics), shown(server.address)
        say(f"{taken} is in use; metrics are on {free}")
    stack.callback(server.stop)
    if server.is_exposed:
        say(
            f"warning: anyone who can connect to {shown(server.address)} can read the metrics; "
            "give --web.config.file with TLS and passwords, or listen on 127.0.0.1"
        )
    scheme = "http" if web is None or web.current.tls is None else "https"
    return f"{scheme}://{shown(server.address)}/metrics"


def _view(options: TraceOptions, header: Header, stream: TextIO, *, live: bool) -> View:
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
