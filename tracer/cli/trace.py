# SPDX-License-Identifier: MIT
"""`lunatik-socket trace`: what runs already, a command to start, or the whole machine."""

import shlex

import click

from tracer.cli.lifecycle import Subject, trace
from tracer.cli.options import TraceOptions, tracing_options
from tracer.model.config import Filter

__all__ = ["command"]


@click.command("trace", short_help="Trace processes, a command, or the whole machine.")
@click.option("--pid", "pids", type=click.IntRange(1), multiple=True, help="Only this process.")
@click.option("--follow-children", is_flag=True, help="And the children that it makes from now on.")
@click.option("--comm", "comms", multiple=True, help="Only threads of this name.")
@click.option("--cgroup", help="Only processes in this cgroup, or below it.")
@click.option("--all", "everything", is_flag=True, help="Every process; so without any choice.")
@tracing_options
@click.argument("command_line", metavar="[-- COMMAND ...]", nargs=-1, type=click.UNPROCESSED)
def command(
    *,
    pids: tuple[int, ...],
    follow_children: bool,
    comms: tuple[str, ...],
    cgroup: str | None,
    everything: bool,
    command_line: tuple[str, ...],
    options: TraceOptions,
) -> int:
    """Trace the socket operations of processes, of a command, or of the whole machine.

    Values of one kind are alternatives; different kinds must all hold. A COMMAND is followed with
    its children, from its first instruction; its exit status becomes this one's. The tracer itself
    is never traced.

    \b
    EXAMPLES
      lunatik-socket trace                        every process
      lunatik-socket trace --pid 4711 --by port   one process, split by local port
      lunatik-socket trace --comm nginx --comm envoy --duration 10
      lunatik-socket trace --json -- curl -s http://127.0.0.1/ | jq .operations
    """
    _check(
        pids=pids,
        follow_children=follow_children,
        comms=comms,
        cgroup=cgroup,
        everything=everything,
        command_line=command_line,
    )
    chosen = Filter(pids=pids, follow_forks=follow_children, comms=comms, cgroup=cgroup)
    subject = Subject(
        text=_text(chosen, command_line),
        filter=chosen,
        command=command_line or None,
        owns_terminal=bool(command_line),
    )
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
        raise click.UsageError("--all does not go with a choice of what to trace")
    if command_line and pids:
        raise click.UsageError("--pid does not go with a COMMAND: that is a process of its own")
    if follow_children and not pids:
        raise click.UsageError("--follow-children needs --pid")
    if "" in comms:
        raise click.UsageError("--comm needs a name")


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
