# SPDX-License-Identifier: MIT
"""What commands share: the tracing options, the types of values, groups of commands."""

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from tracer.model.config import FUNCTION_MECHANISMS, LABELS
from tracer.model.operations import OPERATIONS

__all__ = [
    "Address",
    "CommandGroup",
    "TraceOptions",
    "address",
    "metrics_address",
    "overrides",
    "seconds",
    "server_options",
    "shown",
    "tracing_options",
]

Address = tuple[str, int]

_HOSTS = {"": "127.0.0.1", "localhost": "127.0.0.1", "*": "0.0.0.0"}
_METRICS = ("127.0.0.1", 10435)
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ms|s|m|h|)", re.ASCII)
_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_WRONG_USAGE = 2


class CommandGroup(click.Group):
    """A command with subcommands; without one it prints its help and exits with status 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(_WRONG_USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a mistyped name the error has the closest one."""
        if args[0][:1] != "-" and self.get_command(ctx, args[0]) is None:
            self._refuse(ctx, args[0])
        return super().resolve_command(ctx, args)

    def _refuse(self, ctx: click.Context, name: str) -> NoReturn:
        import difflib  # noqa: PLC0415

        close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
        guess = f" (did you mean '{close[0]}'?)" if close else ""
        ctx.fail(f"No such command '{name}'{guess}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """What the user chose. `live` None: a live table if standard output is a free terminal.

    `metrics_given`: the user chose the address `metrics`; otherwise it is the default.
    `web_config_file` and `web_host` are for the server of the metrics.
    """

    metrics: Address | None
    metrics_given: bool
    web_config_file: str | None
    web_host: tuple[str, ...]
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
    host, port = _host_and_port(text)
    try:
        return str(ipaddress.IPv4Address(_HOSTS.get(host, host))), port
    except ValueError:
        raise click.BadParameter(f'"{host}" in "{text}" is not an IPv4 address') from None


def metrics_address(text: str | Address) -> Address:
    """Read the same, or an IPv6 address in brackets: `[::1]:10435`."""
    if isinstance(text, tuple) or not text.startswith("["):
        return address(text)
    host, port = _host_and_port(text)
    try:
        if host.endswith("]"):
            return str(ipaddress.IPv6Address(host[1:-1])), port
    except ValueError:
        pass
    raise click.BadParameter(f'"{host}" in "{text}" is not an IPv6 address in brackets')


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f'"{text}" is not ADDR:PORT (e.g. 127.0.0.1:1080)')
    return host, int(port)


def host_name(text: str) -> str:
    """Read a host name, without a port."""
    if not _HOST_NAME.fullmatch(text):
        raise click.BadParameter(f'"{text}" is not a host name (e.g. metrics.example.org)')
    return text.lower().removesuffix(".")


def shown(address: Address) -> str:
    """The address as it is typed: `127.0.0.1:1080`, `[::1]:1080`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def seconds(text: str | float) -> float:
    """Read a length of time: `5` and `5s` are seconds, `250ms`, `2m`, `1h`."""
    match = _TIME.fullmatch(str(text))
    value = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0.001 <= value <= 1e9:
        raise click.BadParameter(f'"{text}" is not a time from 1ms to 1e9 seconds (e.g. 5s, 2m)')
    return value


_OPTIONS = (
    click.option(
        "--metrics",
        type=metrics_address,
        metavar="ADDR:PORT",
        default=_METRICS,
        show_default="127.0.0.1:10435",
        help="Where to serve the metrics for Prometheus. If the default is in use, a free port.",
    ),
    click.option("--no-metrics", is_flag=True, help="Do not serve metrics."),
    click.option(
        "--web.config.file",
        "web_config_file",
        metavar="FILE",
        help="TLS, passwords and limits for the metrics, in the format of Prometheus' exporters.",
    ),
    click.option(
        "--web.host",
        "web_host",
        type=host_name,
        metavar="NAME",
        multiple=True,
        help="A host name by which clients may ask for the metrics on loopback; may be repeated.",
    ),
    click.option(
        "--operation",
        type=click.Choice([operation.name for operation in OPERATIONS]),
        metavar="NAME",
        multiple=True,
        help="Trace only this operation; may be repeated.",
    ),
    click.option(
        "--mechanism",
        type=click.Choice(FUNCTION_MECHANISMS),
        default="auto",
        show_default=True,
        help="How to trace kernel functions; tracepoint: do not trace them.",
    ),
    click.option(
        "--duration",
        type=seconds,
        metavar="TIME",
        help="Stop after this time (5, 5s, 2m); a started process gets SIGTERM.",
    ),
    click.option("--by", type=click.Choice(LABELS), help="Also split the numbers by this label."),
    click.option("--json", is_flag=True, help="Print only the final numbers, as JSON."),
    click.option("--output", metavar="FILE", help="Write the final numbers as JSON to FILE."),
    click.option(
        "--interval",
        type=seconds,
        metavar="TIME",
        default=1.0,
        show_default="1s",
        help="How often to show the numbers.",
    ),
    click.option(
        "--live/--no-live",
        default=None,
        help="Show a live table. Default: in a terminal, unless a command writes to it.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Do not show the numbers."),
)
_DOTTED = {"web_config_file": "--web.config.file", "web_host": "--web.host"}
_NAMES = tuple(field.name for field in fields(TraceOptions) if field.name != "metrics_given")


def tracing_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the tracing options to a command; it gets them as one argument, `options`."""

    @functools.wraps(function)
    def with_options(*args: Any, no_metrics: bool, **kwargs: Any) -> Any:
        chosen = {name: kwargs.pop(name) for name in _NAMES}
        context = click.get_current_context()
        given = context.get_parameter_source("metrics") is not ParameterSource.DEFAULT
        if no_metrics and not overrides(context, "metrics", "no_metrics"):
            chosen["metrics"] = None
            _refuse_without_metrics(click.get_current_context(), chosen)
        return function(*args, options=TraceOptions(**chosen, metrics_given=given), **kwargs)

    for option in reversed(_OPTIONS):
        option(with_options)
    return with_options


# The weakest first; a parameter without any of them has its default.
_SOURCES = (
    ParameterSource.DEFAULT_MAP,
    ParameterSource.ENVIRONMENT,
    ParameterSource.COMMANDLINE,
)


def overrides(context: click.Context, name: str, other: str) -> bool:
    """Whether an option was given in a stronger place than another one that contradicts it.

    The command line is stronger than the environment, and that is stronger than a file.
    """
    ranks = [
        _SOURCES.index(source) if source in _SOURCES else -1
        for source in (context.get_parameter_source(name), context.get_parameter_source(other))
    ]
    return ranks[0] > ranks[1]


def _refuse_without_metrics(context: click.Context, chosen: Mapping[str, Any]) -> None:
    for name, option in _DOTTED.items():
        if chosen[name]:
            raise click.UsageError(f"{option} cannot be combined with --no-metrics", context)


def _was_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--trace` and the tracing options to a command that traces on request only.

    Without `--trace` the command gets `options=None`, and any other tracing option is an error.
    """

    @functools.wraps(function)
    @click.pass_context
    def checked(
        context: click.Context, /, *args: Any, trace: bool, options: TraceOptions, **kwargs: Any
    ) -> Any:
        for name in () if trace else (*_NAMES, "no_metrics"):
            if name != "quiet" and _was_given(context, name):
                option = _DOTTED.get(name, f"--{name.replace('_', '-')}")
                raise click.UsageError(f"{option} needs --trace", context)
        return function(*args, options=options if trace else None, **kwargs)

    return click.option("--trace", is_flag=True, help="Trace it.")(tracing_options(checked))
