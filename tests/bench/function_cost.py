# SPDX-License-Identifier: MIT
"""The cost of tracing kernel functions, measured in a VM whose kernel supports it."""

import json
import shlex
import sys
import tempfile
from pathlib import Path

from tests.bench import calls
from tests.bench.function_rounds import (
    BCC,
    BCC_NESTED,
    BPFTRACE,
    FENTRY,
    KPROBE,
    OPERATIONS,
    Block,
)
from tests.bench.report import Bars, Section, Target, table
from tests.bench.statistic import Figure, paired_ratio
from tests.vm import kernels, machine

__all__ = ["measure", "section"]

Blocks = dict[str, list[Block]]

_KERNEL = "6.1"
_PROJECT = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 900
_OURS = (KPROBE, FENTRY)

_TEXT = """
This was measured on Debian's {release} in a virtual machine with software emulation. Nanoseconds
mean nothing there, only ratios do, and the effects of branch prediction, caches and memory latency
do not show. The workload is the one above: TCP, 1 byte, one thread. send passes `tcp_sendmsg`; recv
passes `sock_recvmsg` and, inside it, `tcp_recvmsg`. This gives 1.5 function calls and 3 program
runs per system call. Each tracer is started once; in each round, the programs that it loaded are
attached to these three functions and detached again. This tracer's programs for other functions,
which the workload does not pass, are left out. A time is the minimum of six measurements, compared
with untraced calls just before and after.

*Added* is the extra time per system call, as a share of the untraced time. For this tracer by
kprobe and fentry it is the function layer's part alone: the time beyond that of the operation
layer. Plain `funclatency` keeps one call in flight per thread, so that of two nested calls only the
inner one counts, and all functions share a histogram. With `-F -l 4` it collects nearly what this
tracer does: a histogram for each function, nested calls included. The bpftrace script collects the
same. This tracer also records transport, path, bytes and each errno. The kernel's account covers
the programs at functions. It includes its own cost but not the cost of entering a program, which is
where kprobe and fentry differ; the time added by the empty programs shows that cost.

{ways}

{ratios}
"""

_HEADS = ["", "added", "`run_time_ns` per run", "runs per system call"]


def measure(rounds: int) -> Section:
    """Boot the VM, measure, compare."""
    kernel = kernels.fetch(_KERNEL)
    return section(_in_guest(kernel, rounds), kernel.release)


def section(blocks: Blocks, release: str) -> Section:
    """The section of the report for these measurements."""
    added = _added(blocks)
    targets = [
        _target("function layer by fentry / bcc's `funclatency`", added[FENTRY], added[BCC]),
        _target(
            "the same / `funclatency -F -l 4`, which also counts nested calls",
            added[FENTRY],
            added[BCC_NESTED],
        ),
    ]
    ratios = [[target.what, target.figure] for target in targets]
    ratios += [
        [f"{ours} / {theirs}", paired_ratio(added[ours], added[theirs]).text(".2f")]
        for ours, theirs in ((FENTRY, BPFTRACE), (KPROBE, BCC_NESTED), (KPROBE, BPFTRACE))
    ]
    text = _TEXT.format(
        release=release,
        ways=table(_HEADS, [_row(way, blocks[way], added[way]) for way in added]),
        ratios=table(["added to a call", "ratio"], ratios),
    )
    return Section("The cost of tracing functions in the kernel", text, targets, [_bars(added)])


def _in_guest(kernel: kernels.Kernel, rounds: int) -> Blocks:
    calls.program()  # compiled on the host: slow in the guest
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        inside = [sys.executable, "-m", "tests.bench.function_rounds"]
        command = shlex.join([*inside, str(rounds), "/run/results/functions.json"])
        status = machine.run(
            kernel,
            f"cd {shlex.quote(str(_PROJECT))} && {command}",
            Path(folder),
            timeout=_TIMEOUT_SECONDS,
            on_line=lines.append,
        )
        if status != 0:
            raise RuntimeError("\n".join(["the benchmark failed in the guest:", *lines]))
        written = json.loads((Path(folder) / "functions.json").read_text())
    return {way: [Block(**one) for one in blocks] for way, blocks in written.items()}


def _added(blocks: Blocks) -> dict[str, Figure]:
    """Shares of an untraced call by round; the function layer's without the operation layer's."""
    added = {
        way: Figure(tuple(one.traced_ns / one.untraced_ns - 1 for one in blocks[way]))
        for way in blocks
    }
    return added | {way: added[way].less(added[OPERATIONS]) for way in _OURS}


def _row(way: str, blocks: list[Block], added: Figure) -> list[str]:
    runs = Figure(tuple(one.runs_per_call for one in blocks)).median
    if not runs:
        return [way, added.text("+.0%"), "", ""]
    per_run = Figure(tuple(one.ns_per_run for one in blocks))
    return [way, added.text("+.0%"), per_run.text(), f"{runs:.1f}"]


_WHY = """\
- *Functions, by fentry*: funclatency keeps one start time per thread in a hash, and adds to one
  histogram. This tracer keeps a stack of frames, follows each socket to its transport, with helper
  calls on this kernel (before 6.2), and also counts calls, bytes and errors. Emulation executes
  instructions one by one, so all of this shows. Tried and kept: frames in array slots instead of a
  hash; plain loads for the fields of arguments."""


def _target(what: str, ours: Figure, theirs: Figure) -> Target:
    ratio = paired_ratio(ours, theirs)
    return Target(what, "≤ 0.5", ratio.text(".2f"), ratio.median <= 0.5, _WHY)


def _bars(added: dict[str, Figure]) -> Bars:
    ways = [way for way in added if way != OPERATIONS]
    bars = [(way, added[way].median, f"{added[way].median:+.0%}") for way in ways]
    return Bars("Tracing functions, emulated: added to a call", bars)
