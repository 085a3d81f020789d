# SPDX-License-Identifier: MIT
"""`lunatik-socket run`: a script that uses the socket API, traced on request."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click

from tracer.cli.lifecycle import Subject, trace
from tracer.cli.options import TraceOptions, server_options
from tracer.errors import UnsupportedError, UsageError
from tracer.model.config import Filter
from tracer.process.identity import Identity, become, user_behind_sudo, user_for
from tracer.process.interpreter import own_python, safe_environment
from tracer.sandbox.addresses import parse
from tracer.sandbox.settings import Settings

__all__ = ["command"]


_MEMORY_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LEAST_MEMORY = 1 << 20


def _memory(text: str) -> int:
    """Read a number of bytes, with K, M or G if given."""
    match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text.upper())
    size = int(match[1]) * _MEMORY_UNITS[match[2]] if match else 0
    if not _LEAST_MEMORY <= size < 1 << 62:
        raise click.BadParameter(f'"{text}" is not a size of at least 1M (e.g. 64M, 1G)')
    return size


def _seconds(text: str) -> int:
    """Read a whole number of seconds."""
    match = re.fullmatch(r"([0-9]{1,9})s?", text)
    if match is None or not int(match[1]):
        raise click.BadParameter(f'"{text}" is not a whole number of seconds (e.g. 10)')
    return int(match[1])


def _address_pattern(text: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return text


@click.command("run", short_help="Run a Lua or Python script, traced on request.")
@click.option("--sandbox", is_flag=True, help="Only sockets, memory, time and output.")
@click.option("--memory", type=_memory, metavar="LIMIT", help="Limit of its memory, e.g. 64M.")
@click.option("--time", type=_seconds, metavar="SECONDS", help="Limit of its CPU time.")
@click.option(
    "--connect",
    type=_address_pattern,
    multiple=True,
    metavar="ADDR:PORT",
    help="With --sandbox: where it may connect and send to; default loopback. Repeatable.",
)
@click.option(
    "--listen",
    type=_address_pattern,
    multiple=True,
    metavar="ADDR:PORT",
    help="With --sandbox: where it may bind to; default loopback. Repeatable.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="As root: run the script as this user. Default: the one behind sudo, else root.",
)
@server_options
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(
    *,
    script: str,
    arguments: tuple[str, ...],
    sandbox: bool,
    memory: int | None,
    time: int | None,
    connect: tuple[str, ...],
    listen: tuple[str, ...],
    user: str | None,
    options: TraceOptions | None,
) -> int:
    """Run SCRIPT with its ARGUMENTS; with --trace, trace its socket calls.

    SCRIPT.lua runs in Lua 5.4 with the libraries "socket" and "data", SCRIPT.py in Python. Put
    `--` before the options of SCRIPT. Its exit status is passed on.
    """
    if (connect or listen) and not sandbox:
        raise click.UsageError("--connect and --listen need --sandbox")
    settings = Settings(sandbox, memory, time, connect, listen)
    command_line = _command_line(script, arguments, settings)
    identity = user_for(user, user_behind_sudo())
    if options is None:
        _become(command_line, identity)
    subject = Subject(
        text=" ".join((script, *arguments)),
        filter=Filter(),
        command=command_line,
        ours=True,
        owns_terminal=True,
        identity=identity,
    )
    return trace(subject, options)


def _command_line(script: str, arguments: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    if script.endswith(".lua"):
        if find_spec("lupa") is None:
            raise UnsupportedError(
                "run", script, "the Python package lupa (Lua) is missing", hint="pip install lupa"
            )
    else:
        python = _python(script, arguments)
        if settings == Settings():
            return python
    main = "from tracer.sandbox.command import main; main()"
    return own_python(main, settings.to_text(), script, *arguments)


def _python(script: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    if not script.endswith(".py"):
        raise UsageError(
            "run", script, "unknown kind of script", hint="its name must end in .lua or .py"
        )
    _check_python(script)
    return (sys.executable, script, *arguments)


def _check_python(script: str) -> None:
    """Report a script that cannot start as one line."""
    try:
        compile(Path(script).read_bytes(), script, "exec", dont_inherit=True)
    except OSError as error:
        raise UsageError.of(error, "run", script, "give the path of a readable script") from error
    except SyntaxError as error:
        raise UsageError("run", script, f"line {error.lineno}: {error.msg}") from error
    except ValueError as error:
        raise UsageError("run", script, str(error)) from error


def _become(command_line: tuple[str, ...], identity: Identity | None) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    environment = safe_environment()
    if identity is not None:
        become(identity)
        environment |= identity.environment
    os.execve(command_line[0], command_line, environment)
