"""`lunatik-socket demo`: traffic of its own, traced."""

from dataclasses import replace
from pathlib import Path

import click

from tracer.cli.options import TraceOptions, tracing_options
from tracer.cli.own import own_python
from tracer.cli.tracing import Subject, trace
from tracer.config import Filter

__all__ = ["command"]

_SECONDS = 10.0


@click.command("demo", short_help="Trace traffic of its own, for ten seconds.")
@tracing_options
@click.option("--picture", metavar="FILE", help="Draw the table at the end into FILE, as SVG.")
def command(*, options: TraceOptions, picture: str | None) -> int:
    """Trace a proxy, an echo server and their clients for ten seconds, with some failures.

    curl goes through the SOCKSv4 proxy to a local web server; clients exchange data with the echo
    server on TCP and UDP; and some calls fail on purpose.
    """
    seconds = options.duration or _SECONDS
    subject = Subject(
        text="the demo's servers and clients",
        filter=Filter(),
        command=own_python("from tracer.cli.demo_traffic import main; main()", str(seconds)),
        ours=True,
    )
    # The traffic ends by itself.
    options = replace(options, duration=None)
    if picture is None:
        return trace(subject, options)
    from tracer.cli.picture import PictureView  # noqa: PLC0415

    return trace(subject, options, lambda header: PictureView(header, Path(picture)))
