# SPDX-License-Identifier: MIT
"""`lunatik-socket stuck`: the socket calls that wait in the kernel now."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tracer.cli.options import seconds
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.model.blocked_call import BlockedCall

__all__ = ["command"]


@click.command("stuck", short_help="Show socket calls that wait, and for whom.")
@click.option(
    "--older",
    type=seconds,
    metavar="TIME",
    default=5.0,
    show_default="5s",
    help="Only calls that have waited for this time.",
)
@click.option("--pid", type=int, multiple=True, help="Only this process; may be repeated.")
@click.option("--all", "everything", is_flag=True, help="Also threads that wait for work.")
@click.option("--stacks", is_flag=True, help="Show the functions in the kernel, innermost first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *, older: float, pid: tuple[int, ...], everything: bool, stacks: bool, as_json: bool
) -> int:
    """Show the socket calls that wait in the kernel now, and for whom; the longest wait first.

    A wait is the time since the thread last ran. Nothing needs to be traced, so calls that began
    long ago are shown too. Threads that wait for work are left out: those in accept, and those in
    poll, select or epoll_wait for more than one descriptor. Run it as root to see all processes.
    """
    from tracer.kernel.blocked_calls import blocked_calls  # noqa: PLC0415

    for number in pid:
        if not Path(f"/proc/{number}/task").exists():
            raise UsageError(
                "look at the process", str(number), "no such process", hint="ps -e lists them all"
            )
    calls = blocked_calls(pid, older_seconds=older)
    shown = [call for call in calls if everything or not call.waits_for_work]
    idle = len(calls) - len(shown)
    if as_json:
        click.echo(json.dumps({"calls": list(map(asdict, shown)), "waiting_for_work": idle}))
    else:
        _print(shown, idle, stacks=stacks)
    return 0


def _print(calls: "list[BlockedCall]", idle: int, *, stacks: bool) -> None:
    from rich.console import Console  # noqa: PLC0415

    from tracer.terminal.blocked import blocked_lines  # noqa: PLC0415

    console = Console(highlight=False)
    for call in calls:
        for line in blocked_lines(call, with_stack=stacks):
            console.print(line, soft_wrap=True)
    if not calls:
        console.print("no call waits for that long")
    if idle:
        threads = "1 thread waits" if idle == 1 else f"{idle:,} threads wait"
        console.print(f"{threads} for work (--all shows them)", style="dim")
    if os.geteuid() != 0:
        console.print("only processes of this user are shown: run as root to see all", style="dim")
