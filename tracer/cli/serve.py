# SPDX-License-Identifier: MIT
"""`lunatik-socket serve`: servers built on the socket API, traced on request."""

import ipaddress
import signal
from collections.abc import Callable
from typing import Any, Protocol

import click

from tracer.cli.lifecycle import METRICS_URL, Subject, trace
from tracer.cli.options import (
    Address,
    CommandGroup,
    TraceOptions,
    address,
    seconds,
    server_options,
    shown,
)
from tracer.errors import UsageError
from tracer.model.config import Filter
from tracer.process.interpreter import own_command
from tracer.process.journal import log_to_stderr, say

__all__ = ["command"]

_LEVELS = ("debug", "info", "warning", "error")


def _destination(text: str) -> str:
    """Check a rule about destinations."""
    from lunatik_socket.servers.destinations import DestinationRule  # noqa: PLC0415

    try:
        return DestinationRule.parse(text).text
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


class _Server(Protocol):
    def open(self) -> None: ...
    def serve(self) -> None: ...
    def stop(self) -> None: ...


@click.group("serve", cls=CommandGroup, short_help="Run a SOCKSv4 proxy or an echo server.")
def command() -> None:
    """Run a server built on the socket API; with --trace, trace its socket calls."""


def _listening(port: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of every server."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--log",
                "log_level",
                type=click.Choice(_LEVELS),
                default="info",
                show_default=True,
                help="What to log on standard error.",
            ),
            click.option(
                "--idle-timeout",
                type=seconds,
                metavar="TIME",
                help="Close connections without traffic for this time.",
            ),
            click.option(
                "--max-clients-per-address",
                type=int,
                help="Serve at most this many clients of one address at once. Default: a quarter "
                "of --max-clients; no limit for clients on loopback.",
            ),
            click.option(
                "--max-clients",
                type=int,
                help="Serve at most this many clients at once (default: 2000).",
            ),
            click.option(
                "--listen",
                type=address,
                metavar="ADDR:PORT",
                default=("127.0.0.1", port),
                show_default=f"127.0.0.1:{port}",
                help="Where to listen.",
            ),
        ):
            function = option(function)
        return function

    return decorate


@command.command("socks4")
@_listening(1080)
@click.option(
    "--connect-timeout", type=seconds, metavar="TIME", help="Give up connecting to a target."
)
@click.option(
    "--request-timeout", type=seconds, metavar="TIME", help="Wait this long for a client's request."
)
@click.option(
    "--max-requests-per-address",
    type=int,
    help="Allow one address at most this many clients that are not connected to their destination "
    "yet. Default: an eighth of --max-clients; no limit for clients on loopback.",
)
@click.option(
    "--allow-user", "users", multiple=True, help="Serve only this user id; may be repeated."
)
@click.option(
    "--allow-destination",
    "allowed",
    type=_destination,
    metavar="NETWORK[:PORTS]",
    multiple=True,
    help="Connect only to this network (e.g. 10.0.0.0/8:80,8000-8100; * is any); may be repeated. "
    "Clients of other machines reach loopback and link-local addresses only if a rule names them.",
)
@click.option(
    "--deny-destination",
    "denied",
    type=_destination,
    metavar="NETWORK[:PORTS]",
    multiple=True,
    help="Do not connect to this network, even if it is allowed; may be repeated.",
)
@server_options
@click.pass_context
def _socks4(
    context: click.Context,
    *,
    listen: Address,
    max_clients: int | None,
    max_clients_per_address: int | None,
    max_requests_per_address: int | None,
    idle_timeout: float | None,
    log_level: str,
    connect_timeout: float | None,
    request_timeout: float | None,
    users: tuple[str, ...],
    allowed: tuple[str, ...],
    denied: tuple[str, ...],
    options: TraceOptions | None,
) -> int:
    """Run a SOCKSv4 and SOCKSv4a proxy (CONNECT)."""
    from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server  # noqa: PLC0415

    settings = _given(
        listen=listen,
        max_clients=max_clients,
        max_clients_per_address=max_clients_per_address,
        max_requests_per_address=max_requests_per_address,
        idle_timeout_seconds=idle_timeout,
        connect_timeout_seconds=connect_timeout,
        request_timeout_seconds=request_timeout,
        allowed_users=frozenset(users) or None,
        allowed_destinations=allowed,
        denied_destinations=denied,
    )
    config = _checked(lambda: Socks4Config(**settings))
    if options is None:
        return _serve(Socks4Server(config), log_level, lambda: _warn(listen, "use the proxy"))
    hint = f"try: curl --socks4 {shown(_reachable(listen))} {METRICS_URL}"
    return _trace_server(context, "SOCKSv4 proxy", listen, options, hints=(hint,) * bool(listen[1]))


@command.command("echo")
@_listening(10007)
@click.option(
    "--max-datagrams",
    type=int,
    metavar="N",
    help="UDP: answer at most this many datagrams of one address in a second (default: 100), "
    "after a quiet time ten times as many.",
)
@server_options
@click.pass_context
def _echo(
    context: click.Context,
    *,
    listen: Address,
    max_clients: int | None,
    max_clients_per_address: int | None,
    max_datagrams: int | None,
    idle_timeout: float | None,
    log_level: str,
    options: TraceOptions | None,
) -> int:
    """Run an echo server, on TCP and UDP at the same port."""
    from lunatik_socket.servers.echo import EchoConfig, EchoServer  # noqa: PLC0415

    settings = _given(
        listen=listen,
        max_clients=max_clients,
        max_clients_per_address=max_clients_per_address,
        max_datagrams_per_second=max_datagrams,
        idle_timeout_seconds=idle_timeout,
    )
    config = _checked(lambda: EchoConfig(**settings))
    if options is None:
        return _serve(EchoServer(config), log_level, lambda: _warn(listen, "use the echo server"))
    return _trace_server(context, "echo server", listen, options, hints=())


def _given(**settings: Any) -> dict[str, Any]:
    """The settings that were given; for the others the server has defaults."""
    return {name: value for name, value in settings.items() if value is not None}


def _checked(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ValueError as error:
        raise UsageError("serve", cause=str(error)) from error


def _warn(listen: Address, what: str) -> None:
    """Warn that others can use the server, if they can."""
    if not ipaddress.IPv4Address(listen[0]).is_loopback:
        say(
            f"warning: anyone who can connect to {shown(listen)} can {what}: it has no "
            "password; listen on 127.0.0.1, or restrict access with a firewall"
        )


def _reachable(listen: Address) -> Address:
    return ("127.0.0.1", listen[1]) if listen[0] == "0.0.0.0" else listen


def _serve(server: _Server, log_level: str, warn: Callable[[], None]) -> int:
    import logging  # noqa: PLC0415

    logging.logProcesses = False  # saves a getpid(2) per record, which the format does not show
    log_to_stderr(log_level.upper(), "%(asctime)s %(levelname)s %(message)s")
    server.open()
    warn()

    def stop(number: int, _frame: object) -> None:
        server.stop()
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the server at once

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    server.serve()
    return 0


def _trace_server(
    context: click.Context,
    name: str,
    listen: Address,
    options: TraceOptions,
    *,
    hints: tuple[str, ...],
) -> int:
    """Start the same command without --trace, and trace it."""
    arguments = ["serve", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name in _OWN_OPTIONS and value not in (None, ()):
            for one in value if parameter.multiple else (value,):
                arguments += [parameter.opts[0], shown(one) if isinstance(one, tuple) else str(one)]
    subject = Subject(
        text=f"{name} on {shown(listen)}",
        filter=Filter(),
        command=own_command(*arguments),
        ours=True,
        hints=hints,
    )
    return trace(subject, options)


_OWN_OPTIONS = {
    "listen",
    "max_clients",
    "max_clients_per_address",
    "max_requests_per_address",
    "max_datagrams",
    "idle_timeout",
    "log_level",
    "connect_timeout",
    "request_timeout",
    "users",
    "allowed",
    "denied",
}
