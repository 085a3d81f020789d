# SPDX-License-Identifier: MIT
"""What tracing functions in the kernel costs, on a kernel that can, in a virtual machine."""

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
Debian's {release} in a virtual machine that is emulated, without the processor's help: a
nanosecond there is none here, only ratios mean something, and what a real processor guesses, keeps
in its caches or waits for makes no difference. The workload is as above, TCP, 1 byte, one thread;
send passes `tcp_sendmsg`, recv `sock_recvmsg` and, inside it, `tcp_recvmsg`: 1.5 calls of functions
to a system call, 3 runs of a program. Each tracer is started once; in each round the programs that
it had loaded are attached, at these three functions, and detached again. This tracer's for
other functions, which the workload does not pass, are left out. A time is the least of six,
set against that of untraced calls just before and after.

*Added* is what a system call takes more, as a share of what it takes untraced; for this tracer by
kprobe and fentry the function layer's part alone: what is more than with the operation layer.
`funclatency` as it is knows one call in progress to a thread, so that of two nested ones only the
inner counts, and all functions share a histogram. With `-F -l 4` it nearly answers this tracer's
question: a histogram for each function, nested calls included. bpftrace is asked the same. This
tracer also tells transport, path, bytes and each errno. The kernel's account is of the programs at
functions, its own cost included, and without the way there, which is where kprobe and fentry
differ; without the programs, that way is what the empty ones add.

{ways}

{ratios}
"""

_HEADS = ["", "added", "`run_time_ns` per run", "runs per system call"]


def measure(rounds: int) -> Section:
    """Boot, measure, compare."""
    kernel = kernels.fetch(_KERNEL)
    return section(_in_guest(kernel, rounds), kernel.release)


def section(blocks: Blocks, release: str) -> Section:
    """What came of it."""
    added = _added(blocks)
    targets = [
        _target("function layer by fentry / bcc's `funclatency`", added[FENTRY], added[BCC]),
        _target(
            "the same / `funclatency -F -l 4`, which counts nested calls too",
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
    calls.program()  # compiled here, where that takes no time
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
            raise RuntimeError("\n".join(["it failed in the guest:", *lines]))
        written = json.loads((Path(folder) / "functions.json").read_text())
    return {way: [Block(**one) for one in blocks] for way, blocks in written.items()}


def _added(blocks: Blocks) -> dict[str, Figure]:
    """As shares of an untraced call, round by round; ours less the operation layer's."""
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
- *Functions, by fentry*: funclatency keeps one start for each thread, in a hash, and adds to one
  histogram; this tracer keeps a stack of frames, follows each socket to its transport, by helpers
  on this kernel (before 6.2), and counts calls, bytes and errors besides. Where instructions are
  emulated one by one, all of this shows. Tried and kept: frames by place, not by hash; fields of
  arguments by plain loads."""


def _target(what: str, ours: Figure, theirs: Figure) -> Target:
    ratio = paired_ratio(ours, theirs)
    return Target(what, "≤ 0.5", ratio.text(".2f"), ratio.median <= 0.5, _WHY)


def _bars(added: dict[str, Figure]) -> Bars:
    ways = [way for way in added if way != OPERATIONS]
    bars = [(way, added[way].median, f"{added[way].median:+.0%}") for way in ways]
    return Bars("Tracing functions, emulated: added to a call", bars)
