# SPDX-License-Identifier: MIT
"""The start of the command line. Every error ends here, as one line and an exit status.

0    done
2    wrong usage
3    the kernel or the machine refuses
126  the command cannot be executed; 127: it does not exist
130  interrupted by Ctrl-C; 141: the reader of standard output is gone
else that of the started command
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from syslog import LOG_ERR
from typing import NoReturn

import click

from tracer import __version__
from tracer.cli.options import CommandGroup
from tracer.errors import PROGRAM, ProgramError, TracerError, one_line
from tracer.process.hang_up import null_device
from tracer.process.journal import say

__all__ = ["commands", "exit_status", "main"]

_INTERRUPTED, _BROKEN_PIPE = 128 + 2, 128 + 13
_WRONG_USAGE, _REFUSED = 2, 3
_LOWEST_FREE_DESCRIPTOR = 3

_COMMANDS = ("serve", "run", "trace", "stuck", "doctor", "demo", "observe", "dashboards")


class _Commands(CommandGroup):
    """Imports a command's module when it is used, so that no command loads libraries of another."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"tracer.cli.{cmd_name}").command
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def commands() -> None:
    """Show what every socket call on this machine does: how many, how long, what fails.

    \b
    EXAMPLES
      lunatik-socket doctor                     check what works on this machine
      lunatik-socket serve socks4 --trace       a SOCKSv4 proxy, traced
      lunatik-socket trace -- curl example.org  a command and its children
      lunatik-socket trace --comm nginx         threads that already run
      lunatik-socket trace                      the whole machine
      lunatik-socket stuck                      calls that wait now, and for whom
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    if not _open_standard_descriptors():
        sys.exit(_report(TracerError("write the output", cause="standard output is closed")))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # for locales without "µ"
    sys.exit(_run(arguments))


def _open_standard_descriptors() -> bool:
    """Open /dev/null for each of descriptors 0 to 2 that is closed; False if 1 was closed.

    Otherwise a map or a socket would get that number, and printed text would be written to it.
    """
    is_open = sys.stdout is not None
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < _LOWEST_FREE_DESCRIPTOR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open to the end
    return is_open


def _run(arguments: list[str] | None) -> int:
    return exit_status(
        lambda: commands.main(arguments, prog_name=PROGRAM, standalone_mode=False),
    )


def exit_status(body: Callable[[], object]) -> int:
    """Run `body` and return the exit status that it returns, or that its error has.

    An error is printed.
    """
    try:
        result = body()
    except BrokenPipeError:
        return _broken_pipe()
    except (click.ClickException, TracerError, OSError) as error:
        return _report(error)
    except SystemExit as ended:
        # click raises this with 0 after the words of a completion; click and rich on a broken pipe.
        return _broken_pipe() if ended.code else 0
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        return _report(_exhausted(error))
    return result if isinstance(result, int) else 0


def _exhausted(error: MemoryError | RuntimeError) -> TracerError:
    """A used-up resource as an error; any other RuntimeError is a bug and is raised again."""
    if isinstance(error, MemoryError):
        return TracerError("continue", cause="out of memory", hint="raise the memory limit")
    if "start new thread" not in str(error):  # CPython has no narrower type for it
        raise error
    return TracerError(
        "start a thread",
        cause="the limit of processes is reached",
        hint="raise it (ulimit -u, TasksMax=, --pids-limit)",
    )


def _report(error: click.ClickException | TracerError | OSError) -> int:
    """Print it as one line; return the exit status."""
    match error:
        case click.UsageError():
            text, status = _usage(error), _WRONG_USAGE
        case click.ClickException():
            text, status = error.format_message(), _WRONG_USAGE
        case TracerError():
            text, status = str(error), error.exit_status
        case OSError():
            text, status = one_line(error), _REFUSED
    if isinstance(error, ProgramError) and error.log:
        text += f"; the compiler's output is in {_keep(error.log)}"
    say(" ".join(text.split()), LOG_ERR)
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


def _broken_pipe() -> int:
    """The reader (`… | head`) is gone: print nothing, also when Python flushes at exit."""
    os.dup2(null_device(), sys.stdout.fileno())
    return _BROKEN_PIPE
