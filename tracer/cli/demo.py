# SPDX-License-Identifier: MIT
"""`lunatik-socket demo`: traffic of its own, traced."""

from dataclasses import replace

import click

from tracer.cli.lifecycle import Subject, trace
from tracer.cli.options import TraceOptions, tracing_options
from tracer.model.config import Filter
from tracer.process.interpreter import own_python

__all__ = ["command", "subject"]

_SECONDS = 10.0


@click.command("demo", short_help="Trace traffic of its own, for ten seconds.")
@tracing_options
def command(*, options: TraceOptions) -> int:
    """Trace a proxy, an echo server and their clients for ten seconds, with some failures.

    curl goes through the SOCKSv4 proxy to a local web server; clients exchange data with the echo
    server on TCP and UDP; and some calls fail on purpose.
    """
    # The traffic ends by itself.
    return trace(subject(options.duration or _SECONDS), replace(options, duration=None))


def subject(seconds: float) -> Subject:
    """The traffic as a command to trace."""
    return Subject(
        text="the demo's servers and clients",
        filter=Filter(),
        command=own_python("from tracer.cli.demo_traffic import main; main()", str(seconds)),
        ours=True,
    )
