"""Where the time of a traced call goes: each step alone, by the kernel's own account."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.calls import Calls, Work
from tests.bench.peers import run_statistics
from tests.bench.report import Section, table
from tests.bench.statistic import Figure
from tracer.capabilities import tracefs_directory
from tracer.config import Config, Filter
from tracer.maps import Map
from tracer.program import bpf_directory, build
from tracer.programs import program_info

__all__ = ["measure"]

_STEPS = {
    "step_empty": "an empty program, the account included",
    "step_clock": "reading the clock (at entry and at exit)",
    "step_filter": "the filter (at entry and at exit)",
    "step_thread": "finding the thread's entry, in a hash (at entry and at exit)",
    "step_counter": "counting an entry (and a return), in a per-CPU array",
    "step_socket": "from the descriptor to the socket",
    "step_cell": "histogram, sums, in a per-CPU array",
    "enter_sendto": "**entry, all of it**",
    "exit_returned": "**exit, all of it**",
}
_PLACES = {"exit_returned": "syscalls:sys_exit_sendto"}
_ENTRY = "syscalls:sys_enter_sendto"
_COUNTED = Work("one", "tcp", 1, 400)

_TEXT = """
The steps of a traced call, each as a program of its own on the same system call, by `run_time_ns`.
The empty program's time is taken off the others. Steps done twice a call cost that twice.

{steps}

Of the {all:.0f} ns of entry and exit together, {socket:.0f} go from the descriptor to the socket,
{thread:.0f} to find the thread's entry twice and {clock:.0f} to read the clock twice.
"""


def measure(rounds: int) -> Section:
    """All steps at once, so that each sees the same calls."""
    with Calls() as calls, _attached(calls.pid) as programs:
        calls.ns_per_call(_COUNTED)
        with run_statistics():
            results = [_round(calls, programs) for _ in range(rounds)]
    floor = Figure(tuple(one["step_empty"] for one in results))
    figures = {name: Figure(tuple(one[name] for one in results)) for name in _STEPS}
    net = {name: figure.less(floor) for name, figure in figures.items()}
    rows = [[_STEPS["step_empty"], floor.text()]]
    rows += [[what, net[name].text()] for name, what in _STEPS.items() if name != "step_empty"]
    text = _TEXT.format(
        steps=table(["", "ns"], rows),
        all=net["enter_sendto"].median + net["exit_returned"].median,
        socket=net["step_socket"].median,
        thread=2 * net["step_thread"].median,
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
    os.environ["BCC_KERNEL_SOURCE"] = str(bpf_directory() / "kernel_headers")
    from bcc import BPF  # noqa: PLC0415 - looks for the headers when it is imported

    config = Config(filter=Filter(pids=(pid,)), mechanism="tracepoint", tracer_pid=os.getpid())
    program = build(config, "tracepoint", tracefs_directory())
    text = program.text + Path(__file__).with_name("steps.bpf.c").read_text()
    bpf = BPF(text=text)
    try:
        word = (struct.pack("=I", pid // 64), struct.pack("=Q", 1 << pid % 64))
        Map(bpf["followed"].map_fd).update(*word)
        # The whole entry first: it makes the thread's entry, which others look for.
        for name in reversed(_STEPS):
            bpf.attach_tracepoint(tp=_PLACES.get(name, _ENTRY), fn_name=name)
        yield {name: bpf.funcs[name.encode()].fd for name in _STEPS}
    finally:
        bpf.cleanup()
