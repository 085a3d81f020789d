# SPDX-License-Identifier: MIT
"""`lunatik-socket demo`: trace servers and clients that it starts itself."""

from dataclasses import replace

import click

from tracer.cli.lifecycle import Subject, trace
from tracer.cli.options import TraceOptions, tracing_options
from tracer.model.config import Filter
from tracer.process.interpreter import own_python

__all__ = ["command", "subject"]

_SECONDS = 10.0


@click.command("demo", short_help="Trace demo traffic for ten seconds.")
@tracing_options
def command(*, options: TraceOptions) -> int:
    """Trace a proxy, an echo server and their clients for ten seconds.

    curl fetches from a local web server through the SOCKSv4 proxy, clients exchange data with the
    echo server over TCP and UDP, and some calls fail on purpose.
    """
    # The traffic ends after its time, so the trace needs no limit of its own.
    return trace(subject(options.duration or _SECONDS), replace(options, duration=None))


def subject(seconds: float) -> Subject:
    """The traffic as a command to trace."""
    return Subject(
        text="the demo's servers and clients",
        filter=Filter(),
        command=own_python("from tracer.cli.demo_traffic import main; main()", str(seconds)),
        ours=True,
    )
