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

__all__ = ["measure"]

Blocks = dict[str, list[Block]]

_KERNEL = "6.1"
_PROJECT = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 900
_ROUNDS_OF_A_TURN = 5
_OURS = (KPROBE, FENTRY)

_TEXT = """
Debian's {release} in a virtual machine that is emulated, with no help of the processor's: a
nanosecond there is no nanosecond, and only ratios mean something. Emulation also blurs them: what
a processor guesses, keeps in its caches or waits for makes no difference there. The workload is as
above, TCP, 1 byte, one thread; send passes `tcp_sendmsg`, recv `sock_recvmsg` and in it
`tcp_recvmsg`, so that there are 1.5 function calls to a system call. The others trace these three
functions; this tracer all that it knows, of which the workload passes these three. Each is started
once in each of {turns} turns. A time is the least of 15, against that of untraced calls
just before and after.

*Added* is what a system call takes more, as a share of what it takes untraced; for this tracer, the
function layer's part: what is more than with the operation layer alone. `funclatency` as it is
knows one call in progress to a thread, so that of the nested two only the inner one counts, and all
functions share a histogram; with `-F -l 4` it answers nearly the same question as the others:
a histogram for each function, nested calls included. This tracer's also tells transport, errors and
bytes. The kernel's own account is of the programs at the functions alone.

{ways}

{ratios}
"""

_HEADS = ["", "added", "`run_time_ns` per run", "runs per system call", "ready after, s"]


def measure(rounds: int) -> Section:
    """Boot, measure, compare."""
    turns = max(1, rounds // _ROUNDS_OF_A_TURN)
    kernel = kernels.fetch(_KERNEL)
    blocks = _in_guest(kernel, turns)
    added = _added(blocks)
    targets = [
        _target("function layer by fentry / bcc's `funclatency`", added[FENTRY], added[BCC]),
        _target(
            "the same, `funclatency -F -l 4`, which counts nested calls too",
            added[FENTRY],
            added[BCC_NESTED],
        ),
    ]
    others = [
        ("fentry / bpftrace", paired_ratio(added[FENTRY], added[BPFTRACE])),
        ("kprobe / `funclatency -F -l 4`", paired_ratio(added[KPROBE], added[BCC_NESTED])),
        ("kprobe / bpftrace", paired_ratio(added[KPROBE], added[BPFTRACE])),
    ]
    ratios = [[f"added: {target.what}", target.figure] for target in targets]
    ratios += [[f"added: {what}", figure.text(".2f")] for what, figure in others]
    text = _TEXT.format(
        release=kernel.release,
        turns=turns,
        ways=table(_HEADS, [_row(way, blocks[way], added.get(way)) for way in blocks]),
        ratios=table(["", "ratio"], ratios),
    )
    return Section("The cost of tracing functions in the kernel", text, targets, [_bars(added)])


def _in_guest(kernel: kernels.Kernel, turns: int) -> Blocks:
    calls.program()  # compiled here, where that takes no time
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        inside = [sys.executable, "-m", "tests.bench.function_rounds"]
        command = shlex.join([*inside, str(turns), "/run/results/functions.json"])
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
    """As shares of an untraced call, turn by turn; ours less the operation layer's."""
    shares = {
        way: Figure(tuple(one.traced_ns / one.untraced_ns - 1 for one in blocks[way]))
        for way in blocks
    }
    return shares | {way: shares[way].less(shares[OPERATIONS]) for way in _OURS}


def _row(way: str, blocks: list[Block], added: Figure | None) -> list[str]:
    assert added is not None
    runs = Figure(tuple(one.runs_per_call for one in blocks))
    cells = [way, added.text("+.0%")]
    if runs.median:
        per_run = Figure(tuple(one.ns_per_run for one in blocks))
        cells += [per_run.text(), f"{runs.median:.1f}"]
    else:
        cells += ["", ""]
    return [*cells, f"{Figure(tuple(one.start_seconds for one in blocks)).median:.0f}"]


def _target(what: str, ours: Figure, theirs: Figure) -> Target:
    ratio = paired_ratio(ours, theirs)
    return Target(what, "≤ 0.5", ratio.text(".2f"), ratio.median <= 0.5)


def _bars(added: dict[str, Figure]) -> Bars:
    ways = [way for way in added if way not in ("untraced", OPERATIONS)]
    bars = [(way, added[way].median, f"{added[way].median:+.0%}") for way in ways]
    return Bars("Tracing functions, emulated: added to a call", bars)
