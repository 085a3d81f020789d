# SPDX-License-Identifier: MIT
"""Where the command line begins and where every error ends: as one line and an exit status.

0    done
2    a wrong call
3    the kernel or the machine refuses
126  a command that cannot be executed; 127: that is not there
130  broken off by Ctrl-C; 141: nobody reads standard output any more
else the started command's own
"""

import importlib
import os
import sys
import tempfile
from typing import Any, NoReturn

import click

from tracer import __version__
from tracer.errors import PROGRAM, ProgramError, TracerError, one_line

__all__ = ["commands", "main"]

_INTERRUPTED, _NOBODY_READS = 128 + 2, 128 + 13
_WRONG_CALL, _REFUSED = 2, 3

_COMMANDS = ("serve", "run", "trace", "doctor", "demo", "observe", "dashboards")


class _Commands(click.Group):
    """Finds a command's module by its name: starting one does not load the libraries of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tracer.cli.{cmd_name}").command
        return command


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> int | None:
    """Show which socket operations programs make, and what each costs inside the Linux kernel.

    \b
    EXAMPLES
      lunatik-socket doctor                     what this machine can do
      lunatik-socket serve socks4 --trace       a SOCKSv4 proxy, traced
      lunatik-socket trace -- curl example.org  one command and its children
      lunatik-socket trace --comm nginx         what runs already
      lunatik-socket trace                      the whole machine
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return _WRONG_CALL
    return None


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a locale without "µ" is no reason to fail
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        result: Any = commands.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except (click.ClickException, TracerError, OSError) as error:
        return _complain(error)
    except SystemExit:
        # Both click and rich end so when they meet a closed pipe, and nothing else does.
        return _nobody_reads()
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    return result if isinstance(result, int) else 0


def _complain(error: click.ClickException | TracerError | OSError) -> int:
    """Say it in one line; return the exit status."""
    match error:
        case click.UsageError():
            text, status = _usage(error), _WRONG_CALL
        case click.ClickException():
            text, status = error.format_message(), _WRONG_CALL
        case TracerError():
            text, status = str(error), error.exit_status
        case OSError():
            text, status = one_line(error), _REFUSED
    if isinstance(error, ProgramError) and error.log:
        text += f"; what the compiler said is in {_keep(error.log)}"
    click.echo(f"{PROGRAM}: {' '.join(text.split())}", err=True)
    return status


def _keep(log: str) -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"{PROGRAM}-", suffix=".log", delete=False
    ) as file:
        file.write(log)
    return file.name


def _usage(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else PROGRAM
    cause = error.format_message().rstrip(".")
    return f"{cause[:1].lower()}{cause[1:]}; see {command} --help"


def _nobody_reads() -> int:
    """`… | head` went away: no complaint, and none from Python when it ends and flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _NOBODY_READS
