# SPDX-License-Identifier: MIT
"""Where the time of a traced call goes: each step alone, by the kernel's own account."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.calls import Calls, Work
from tests.bench.peers import run_statistics
from tests.bench.report import Section, table
from tests.bench.statistic import Figure
from tracer.kernel.program_info import program_info
from tracer.loading.attachments import Attacher, Attachment
from tracer.loading.child import compile_program, import_bcc
from tracer.loading.parent import order_for, program_for
from tracer.model.config import Config, Filter

__all__ = ["measure"]

_STEPS = {
    "step_empty": "an empty program, the account included",
    "step_clock": "reading the clock (at entry and at exit)",
    "step_table": "looking the number up in the table of system calls",
    "step_thread": "at entry: finding and checking the thread's slot, and the filter",
    "step_thread_again": "at exit: finding the slot",
    "step_newcomer": "for comparison: asking the kernel for task and ids, the filter",
    "step_counter": "counting (at entry and at exit), in a per-CPU array",
    "step_thread_and_socket": "from the thread and the descriptor to the socket",
    "step_cell": "histogram, sums, in a per-CPU array",
}
_WHOLE = {
    "enter_system_call": "**entry, all of it**",
    "exit_system_call": "**exit, all of it**",
}
_COUNTED = Work("one", "tcp", 1, 400)

_TEXT = """
The steps of a traced call, each as a separate program at the raw tracepoint `sys_enter`, by
`run_time_ns`, and the two programs themselves. They run at every system call of the machine, also
of other processes. The time of the empty program is subtracted from the others. A step finds in the
caches what the step before it has fetched. Entry and exit do not: a system call is between them.

{steps}

Of the {all:.0f} ns of entry and exit together, {clock:.0f} are for reading the clock twice and
{socket:.0f} for getting from the descriptor to the socket.
"""


def measure(rounds: int) -> Section:
    """All steps at once, so that each sees the same calls."""
    with Calls() as calls, _attached(calls.pid) as programs:
        calls.ns_per_call(_COUNTED)
        with run_statistics():
            results = [_round(calls, programs) for _ in range(rounds)]
    floor = Figure(tuple(one["step_empty"] for one in results))
    names = _STEPS | _WHOLE
    figures = {name: Figure(tuple(one[name] for one in results)) for name in names}
    net = {name: figure.less(floor) for name, figure in figures.items()}
    rows = [[_STEPS["step_empty"], floor.text()]]
    rows += [[what, net[name].text()] for name, what in names.items() if name != "step_empty"]
    text = _TEXT.format(
        steps=table(["", "ns"], rows),
        all=sum(net[name].median for name in _WHOLE),
        socket=net["step_thread_and_socket"].median - net["step_thread"].median,
        clock=2 * net["step_clock"].median,
    )
    return Section("Where the time of a traced call goes", text)


def _round(calls: Calls, programs: dict[str, int]) -> dict[str, float]:
    before = {name: program_info(fd) for name, fd in programs.items()}
    calls.ns_per_call(_COUNTED)
    after = {name: program_info(fd) for name, fd in programs.items()}
    return {
        name: (after[name].run_time_ns - old.run_time_ns) / (after[name].run_count - old.run_count)
        for name, old in before.items()
    }


@contextmanager
def _attached(pid: int) -> Iterator[dict[str, int]]:
    """The programs' descriptors by name, with everything in place."""
    config = Config(filter=Filter(pids=(pid,)), mechanism="tracepoint", tracer_pid=os.getpid())
    order = order_for(program_for(config))
    text = Path(__file__).with_name("steps.bpf.c").read_text()
    assert set(re.findall(r"int (step_\w+)", text)) == _STEPS.keys()
    bpf = compile_program(import_bcc(), replace(order, text=f"{order.text}\n{text}"))
    attacher = Attacher(import_bcc(), bpf, os.getpid())
    try:
        followed = bpf["followed"]
        row = followed.Leaf()
        row.is_followed[pid % 64] = 1
        followed[followed.Key(pid // 64)] = row
        steps = [Attachment("raw_tracepoint", name, "sys_enter") for name in _STEPS]
        if failures := list(filter(None, map(attacher.attach, [*order.attachments, *steps]))):
            raise RuntimeError(f"cannot attach: {failures}")
        yield {name: attacher.programs[name] for name in _STEPS | _WHOLE}
    finally:
        for descriptor in [*attacher.probes, *attacher.programs.values()]:
            os.close(descriptor)
        bpf.cleanup()
