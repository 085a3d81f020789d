# SPDX-License-Identifier: MIT
"""A trace from start to end: hold the command, attach, release it, show, wait, summarize."""

import base64
import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from errno import EADDRINUSE
from syslog import LOG_INFO
from typing import TYPE_CHECKING, TextIO

from tracer.cli.loop import Loop
from tracer.cli.options import Address, TraceOptions, shown
from tracer.cli.show import Show, view
from tracer.cli.worker import Worker
from tracer.errors import TracerError, UsageError
from tracer.model.config import Config, Filter
from tracer.process.command import StartedCommand
from tracer.process.identity import Identity
from tracer.process.interpreter import safe_environment
from tracer.process.journal import in_journal, log_to_stderr, say
from tracer.process.output import Relay
from tracer.process.service_manager import ServiceManager, passed_listener
from tracer.process.signals import Signals
from tracer.session import Session
from tracer.terminal.json_output import json_writers
from tracer.terminal.rows import Header
from tracer.terminal.view import (
    View,
    is_live_terminal,
)

if TYPE_CHECKING:
    from tracer.exporter.http.config_file import WebConfigFile
    from tracer.exporter.http.routes import MetricsServer

__all__ = ["METRICS_URL", "Subject", "trace"]

METRICS_URL = "{metrics}"  # in a hint
_ANY_URL = "http://example.org/"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is traced; `text` names it in the header.

    `command` is started and followed with its children. `owns_terminal`: the user wants to see its
    output, so no live table is drawn unless asked for. `ours`: it is a server or script of this
    program and must end with it. In `hints`, METRICS_URL stands for the URL of the metrics, or for
    some URL if none are served. `identity` is the user that the command runs as, None for the same.
    """

    text: str
    filter: Filter
    command: tuple[str, ...] | None = None
    ours: bool = False
    owns_terminal: bool = False
    hints: tuple[str, ...] = ()
    identity: Identity | None = None


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
        listener = _listener(stack, options)
        server, url = _metrics_server(options, session, web, listener)
        header = Header(_text(subject, child), url, _hints(subject, url))
        show = Show(
            options,
            header,
            stream,
            writers,
            server,
            relay,
            lambda: make_view(header) if make_view else view(options, header, stream, live=live),
        )
        worker = stack.enter_context(
            Worker(session, signals, show.prepare, show.run, show.descriptors(listener))
        )
        if listener is not None:
            listener.close()
        if (failure := worker.wait_until_ready()) is not None:
            return failure
        if child is not None:
            child.release()
        worker.confine_broker()
        state = f"tracing {header.subject}; " + (f"metrics on {url}" if url else "no metrics")
        manager.ready(state)
        status = Loop(
            worker,
            signals,
            child,
            duration=options.duration,
            pids=_awaited(subject.filter),
            manager=manager,
            reload=lambda: _reload(manager, state),
        ).run()
        return worker.finish(silently=_failed_to_serve(subject, status)) or status


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
    child = StartedCommand(
        subject.command,
        dies_with_us=subject.ours,
        output=output,
        errors=errors,
        identity=subject.identity,
        environment=safe_environment() if subject.ours else None,
    )
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
        connections=options.connections,
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


def _listener(stack: ExitStack, options: TraceOptions) -> socket.socket | None:
    """Listen for the metrics. If the default port is in use, as by another tracer, take a free one.

    It is done before the worker is confined, for a port below 1024.
    """
    if options.metrics is None:
        return None
    from tracer.exporter.http.listener import listen  # noqa: PLC0415

    if (passed := passed_listener()) is not None:
        return stack.enter_context(passed)
    try:
        listener = listen(options.metrics)
    except TracerError as error:
        if options.metrics_given or error.errno != EADDRINUSE:
            raise
        listener = listen((options.metrics[0], 0))
        taken, free = shown(options.metrics), shown(listener.getsockname()[:2])
        say(f"{taken} is in use; metrics are on {free}")
    return stack.enter_context(listener)


def _metrics_server(
    options: TraceOptions,
    session: Session,
    web: "WebConfigFile | None",
    listener: socket.socket | None,
) -> "tuple[MetricsServer | None, str | None]":
    """The server, which the worker starts, and the URL."""
    if listener is None:
        return None, None
    from tracer.exporter.http.routes import MetricsServer  # noqa: PLC0415

    address: Address = listener.getsockname()[:2]
    if web is not None:
        session.requests.read_web_file = web.named_file
        web.read_through(lambda name: base64.b64decode(session.ask.web_file(name)))
    server = MetricsServer(address, session.snapshot, web, options.web_host, listener)
    if server.is_exposed:
        say(
            f"warning: anyone who can connect to {shown(address)} can read the metrics; "
            "give --web.config.file with TLS and passwords, or listen on 127.0.0.1"
        )
    scheme = "http" if web is None or web.current.tls is None else "https"
    return server, f"{scheme}://{shown(address)}/metrics"
