"""`lunatik-socket run`: a script written to the socket API, traced on request."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from tracer.cli.options import TraceOptions, server_options
from tracer.cli.tracing import Subject, trace
from tracer.config import Filter
from tracer.errors import CallError

__all__ = ["command"]


@click.command("run", context_settings={"allow_interspersed_args": True})
@server_options
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(script: str, arguments: tuple[str, ...], options: TraceOptions | None) -> int:
    """Run SCRIPT with its ARGUMENTS; with --trace, see what its calls cost in the kernel.

    Options of SCRIPT's own stand behind `--`. Its exit status becomes this one's.
    """
    command_line = _command_line(script, arguments)
    if options is None:
        _become(command_line)
    subject = Subject(
        text=" ".join((script, *arguments)),
        filter=Filter(),
        command=command_line,
        ours=True,
        owns_terminal=True,
    )
    return trace(subject, options)


def _command_line(script: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """What runs a script of this language."""
    if script.endswith(".lua"):
        raise CallError(f'cannot run "{script}": Lua scripts are not supported yet; SCRIPT.py is')
    if not script.endswith(".py"):
        raise CallError(f'cannot run "{script}": unknown kind of script; its name must end in .py')
    _check_python(script)
    return (sys.executable, script, *arguments)


def _check_python(script: str) -> None:
    """A script that cannot start is refused here, in one line."""
    try:
        compile(Path(script).read_bytes(), script, "exec", dont_inherit=True)
    except OSError as error:
        raise CallError(
            f'cannot run "{script}": {error.strerror}; the path of a readable script is needed'
        ) from error
    except SyntaxError as error:
        raise CallError(f'cannot run "{script}": line {error.lineno}: {error.msg}') from error
    except ValueError as error:
        raise CallError(f'cannot run "{script}": {error}') from error


def _become(command_line: tuple[str, ...]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command_line[0], command_line)
