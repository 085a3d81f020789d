# SPDX-License-Identifier: MIT
"""`lunatik-socket trace`: running processes, a command, or the whole machine."""

import contextlib
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path

import click

from tracer.cli.config_file import config_option
from tracer.cli.lifecycle import Subject, trace
from tracer.cli.options import TraceOptions, overrides, tracing_options
from tracer.model.config import Filter
from tracer.model.thread_names import automaton, is_pattern, matcher
from tracer.process.identity import user_behind_sudo, user_for
from tracer.process.journal import say

__all__ = ["command"]

_NAMES_SHOWN = 10


# Every option can be set by a variable: --metrics by LUNATIK_SOCKET_TRACE_METRICS.
_VARIABLES = "LUNATIK_SOCKET_TRACE"


@click.command(
    "trace",
    short_help="Trace processes, a command, or the whole machine.",
    context_settings={"auto_envvar_prefix": _VARIABLES},
)
@config_option
@click.option(
    "--pid",
    "pids",
    envvar=f"{_VARIABLES}_PID",
    type=click.IntRange(1),
    multiple=True,
    help="Trace only this process; may be repeated.",
)
@click.option(
    "--follow-children", is_flag=True, help="With --pid: also trace children started from now on."
)
@click.option(
    "--comm",
    "comms",
    envvar=f"{_VARIABLES}_COMM",
    multiple=True,
    help="Trace only threads of this name or pattern (nginx*); may be repeated.",
)
@click.option(
    "--user",
    metavar="NAME",
    help="As root: run the COMMAND as this user. Default: the one behind sudo, else root.",
)
@click.option("--cgroup", help="Trace only processes in or below this cgroup.")
@click.option(
    "--all",
    "everything",
    envvar=f"{_VARIABLES}_ALL",
    is_flag=True,
    help="Trace every process (default).",
)
@tracing_options
@click.argument("command_line", metavar="[-- COMMAND ...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    pids: tuple[int, ...],
    follow_children: bool,
    comms: tuple[str, ...],
    user: str | None,
    cgroup: str | None,
    everything: bool,
    command_line: tuple[str, ...],
    options: TraceOptions,
) -> int:
    """Trace the socket calls of running processes, of a COMMAND, or of the whole machine.

    Repeated options are alternatives: --comm nginx --comm envoy traces both. Different options
    must all match. A COMMAND is traced with its children from its first instruction, and its exit
    status is passed on; metrics are then served only with --metrics. The tracer does not trace
    itself.

    \b
    EXAMPLES
      lunatik-socket trace                        every process
      lunatik-socket trace --pid 4711 --by port   one process, split by port
      lunatik-socket trace --comm nginx --comm envoy --duration 10
      lunatik-socket trace --json -- curl -s http://127.0.0.1/ | jq .operations
    """
    filters = ("pids", "comms", "cgroup")
    everything = everything and not any(overrides(context, name, "everything") for name in filters)
    if everything:
        pids = () if overrides(context, "everything", "pids") else pids
        comms = () if overrides(context, "everything", "comms") else comms
        cgroup = None if overrides(context, "everything", "cgroup") else cgroup
    _check(
        pids=pids,
        follow_children=follow_children,
        comms=comms,
        cgroup=cgroup,
        everything=everything,
        command_line=command_line,
    )
    if user is not None and not command_line:
        raise click.UsageError("--user needs a COMMAND")
    chosen = Filter(pids=pids, follow_forks=follow_children, comms=comms, cgroup=cgroup)
    if comms and not command_line:
        say(_running(comms))
    subject = Subject(
        text=_text(chosen, command_line),
        filter=chosen,
        command=command_line or None,
        owns_terminal=bool(command_line),
        identity=user_for(user, user_behind_sudo()) if command_line else None,
    )
    if command_line and not options.metrics_given:
        options = replace(options, metrics=None)  # a command rarely lives until a scrape
    return trace(subject, options)


def _check(
    *,
    pids: tuple[int, ...],
    follow_children: bool,
    comms: tuple[str, ...],
    cgroup: str | None,
    everything: bool,
    command_line: tuple[str, ...],
) -> None:
    if everything and (pids or comms or cgroup or command_line):
        raise click.UsageError("--all cannot be combined with --pid, --comm, --cgroup or a COMMAND")
    if command_line and pids:
        raise click.UsageError("--pid cannot be combined with a COMMAND")
    if follow_children and not pids:
        raise click.UsageError("--follow-children needs --pid")
    if "" in comms:
        raise click.UsageError("--comm needs a name")
    try:
        automaton(comm for comm in comms if is_pattern(comm))
    except ValueError as error:
        raise click.UsageError(f"--comm: {error}") from error


def _running(comms: tuple[str, ...]) -> str:
    """The running threads that have these names, in one line."""
    matches = matcher(comms)
    found: Counter[str] = Counter()
    for path in Path("/proc").glob("[0-9]*/task/*/comm"):
        with contextlib.suppress(OSError):  # it has ended
            name = path.read_bytes().removesuffix(b"\n")
            if matches(name):
                found[name.decode(errors="backslashreplace")] += 1
    if not found:
        return "warning: no running thread has a name that --comm matches; waiting for one"
    shown = ", ".join(f"{name} ({number})" for name, number in found.most_common(_NAMES_SHOWN))
    more = ", ..." if len(found) > _NAMES_SHOWN else ""
    return f"threads that --comm matches now: {shown}{more}"


def _text(chosen: Filter, command_line: tuple[str, ...]) -> str:
    parts = []
    if command_line:
        parts.append(shlex.join(command_line))
    if chosen.pids:
        pids = ", ".join(map(str, chosen.pids))
        children = " and its children" if chosen.follow_forks else ""
        parts.append(f"process {pids}{children}")
    if chosen.comms:
        parts.append("threads named " + ", ".join(chosen.comms))
    if chosen.cgroup:
        parts.append(f"cgroup {chosen.cgroup}")
    return " in ".join(parts) or "every process"
