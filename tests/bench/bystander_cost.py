# SPDX-License-Identifier: MIT
"""What tracing one process costs the other processes, whose calls are not counted."""

from collections.abc import Callable

from tests.bench.calls import Calls, Work
from tests.bench.peers import PEERS
from tests.bench.report import Section, table
from tests.bench.statistic import Figure, in_turns

__all__ = ["measure"]

_WAYS = ("untraced", "empty programs", "empty programs, raw", "this tracer")
_SLICES = 400
_WORKS = {
    "getppid(2)": Work("bare", "tcp", 1, _SLICES),
    "a call on a socket (TCP, 1 byte, one thread)": Work("one", "tcp", 1, _SLICES),
}
_TRACED = Work("one", "tcp", 1, 20)

_TEXT = """
Two processes: one is traced and idle, while the other, which is not traced, makes calls. As soon as
a program is attached to any system call tracepoint, every system call of the machine takes the
kernel's slower path past all of them. A program at a raw tracepoint also runs each time, to find
out that the process is not traced.

Nanoseconds per call of the process that is not traced:

{times}
"""


def measure(rounds: int) -> Section:
    """Let each tracer trace the same process, in alternation."""
    with Calls() as traced, Calls() as bystander:
        results = in_turns({name: _way(name, traced, bystander) for name in _WAYS}, rounds)
    rows = []
    for way, rounds_of_way in results.items():
        figures = (Figure(tuple(one[work] for one in rounds_of_way)) for work in _WORKS)
        rows.append([way, *(figure.text() for figure in figures)])
    return Section(
        "The cost for processes that are not traced", _TEXT.format(times=table(["", *_WORKS], rows))
    )


def _way(name: str, traced: Calls, bystander: Calls) -> Callable[[], dict[str, float]]:
    def once() -> dict[str, float]:
        with PEERS[name](traced.pid):
            traced.ns_per_call(_TRACED)
            return {what: bystander.ns_per_call(work) for what, work in _WORKS.items()}

    return once
