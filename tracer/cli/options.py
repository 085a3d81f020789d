# SPDX-License-Identifier: MIT
"""The options common to all that traces, in one place."""

import functools
import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import click
from click.core import ParameterSource

from tracer.model.config import FUNCTION_MECHANISMS, LABELS
from tracer.model.operations import OPERATIONS

__all__ = [
    "Address",
    "TraceOptions",
    "address",
    "seconds",
    "server_options",
    "shown",
    "tracing_options",
]

Address = tuple[str, int]

_HOSTS = {"": "127.0.0.1", "localhost": "127.0.0.1", "*": "0.0.0.0"}
_METRICS = ("127.0.0.1", 10435)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """What the user chose. `metrics` and `duration` may be None; `live` None: where it fits."""

    metrics: Address | None
    operation: tuple[str, ...]
    mechanism: str
    duration: float | None
    by: str | None
    json: bool
    output: str | None
    interval: float
    live: bool | None
    quiet: bool


def address(text: str | Address) -> Address:
    """Read an IPv4 address and a port; `:1080` and `localhost:1080` are on 127.0.0.1."""
    if isinstance(text, tuple):
        return text
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f'"{text}" is not an address and a port, as 127.0.0.1:1080 is')
    try:
        return str(ipaddress.IPv4Address(_HOSTS.get(host, host))), int(port)
    except ValueError:
        raise click.BadParameter(f'"{host}" in "{text}" is not an IPv4 address') from None


def shown(address: Address) -> str:
    """As it is written: `127.0.0.1:1080`."""
    return f"{address[0]}:{address[1]}"


def seconds(text: str | float) -> float:
    """Read a length of time above 0 that fits into a timer."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.001 <= value <= 1e9:
        raise click.BadParameter(f'"{text}" is not a number of seconds from 0.001 to 1e9')
    return value


_OPTIONS = (
    click.option(
        "--metrics",
        type=address,
        metavar="ADDR:PORT",
        default=_METRICS,
        show_default="127.0.0.1:10435",
        help="Serve the metrics here, for Prometheus.",
    ),
    click.option("--no-metrics", is_flag=True, help="Serve no metrics."),
    click.option(
        "--operation",
        type=click.Choice([operation.name for operation in OPERATIONS]),
        metavar="NAME",
        multiple=True,
        help="Only this operation; several may be named.",
    ),
    click.option(
        "--mechanism",
        type=click.Choice(FUNCTION_MECHANISMS),
        default="auto",
        show_default=True,
        help="How to trace functions inside the kernel; tracepoint: not at all.",
    ),
    click.option(
        "--duration",
        type=seconds,
        metavar="SECONDS",
        help="Stop after so long; a started process gets SIGTERM then.",
    ),
    click.option("--by", type=click.Choice(LABELS), help="Split the numbers by this, too."),
    click.option("--json", is_flag=True, help="Print the final numbers as JSON, and nothing else."),
    click.option("--output", metavar="FILE", help="Write the final numbers as JSON to FILE."),
    click.option(
        "--interval",
        type=seconds,
        metavar="SECONDS",
        default=1.0,
        show_default=True,
        help="How often to show the numbers.",
    ),
    click.option(
        "--live/--no-live",
        default=None,
        help="Show a live table; by default in a terminal, unless a command writes to it.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Show no numbers."),
)
_NAMES = tuple(field.name for field in fields(TraceOptions))


def tracing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the common options; it gets them as one argument, `options`."""

    @functools.wraps(function)
    def with_options(*args: Any, no_metrics: bool, **kwargs: Any) -> Any:
        chosen = {name: kwargs.pop(name) for name in _NAMES}
        if no_metrics:
            chosen["metrics"] = None
        return function(*args, options=TraceOptions(**chosen), **kwargs)

    for option in reversed(_OPTIONS):
        option(with_options)
    return with_options


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that traces only on request `--trace`, and the common options for then.

    It gets `options` None when there is nothing to trace.
    """

    @functools.wraps(function)
    @click.pass_context
    def checked(
        context: click.Context, /, *args: Any, trace: bool, options: TraceOptions, **kwargs: Any
    ) -> Any:
        for name in () if trace else (*_NAMES, "no_metrics"):
            if (
                name != "quiet"
                and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            ):
                raise click.UsageError(f"--{name.replace('_', '-')} needs --trace", context)
        return function(*args, options=options if trace else None, **kwargs)

    return click.option("--trace", is_flag=True, help="Trace it in the kernel.")(
        tracing_options(checked)
    )
