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


@click.command("run", short_help="Run a Lua or Python script, traced on request.")
@click.option("--sandbox", is_flag=True, help="Lua: without files, processes and environment.")
@click.option("--memory", type=_memory, metavar="LIMIT", help="Lua: limit of its memory, e.g. 64M.")
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
    user: str | None,
    options: TraceOptions | None,
) -> int:
    """Run SCRIPT with its ARGUMENTS; with --trace, trace its socket calls.

    SCRIPT.lua runs in Lua 5.4 with the libraries "socket" and "data", SCRIPT.py in Python. Put
    `--` before the options of SCRIPT. Its exit status is passed on.
    """
    if script.endswith(".lua"):
        command_line = _lua(script, arguments, sandbox=sandbox, memory=memory)
    elif sandbox or memory is not None:
        raise click.UsageError("--sandbox and --memory are for Lua scripts")
    else:
        command_line = _python(script, arguments)
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


def _lua(
    script: str, arguments: tuple[str, ...], *, sandbox: bool, memory: int | None
) -> tuple[str, ...]:
    if find_spec("lupa") is None:
        raise UnsupportedError(
            "run", script, "the Python package lupa (Lua) is missing", hint="pip install lupa"
        )
    main = "from lunatik_socket.lua.command import main; main()"
    kind = "sandbox" if sandbox else "open"
    return own_python(main, kind, str(memory or 0), script, *arguments)


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
