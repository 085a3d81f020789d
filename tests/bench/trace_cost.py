# SPDX-License-Identifier: MIT
"""The cost of tracing one call: this tracer against empty programs and against other tracers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.bench.calls import Calls, Work
from tests.bench.peers import PEERS, Account, account, is_here, run_statistics
from tests.bench.report import Bars, Section, Target, table
from tests.bench.statistic import Figure, in_turns, paired_ratio

__all__ = ["measure"]

_WORKS = {
    "TCP, 1 byte, one thread": ("one", "tcp", 1),
    "UDP, 64 bytes, one thread": ("one", "udp", 64),
    "TCP, 1 byte, two threads": ("two", "tcp", 1),
    "UDP, 64 bytes, two threads": ("two", "udp", 64),
}
_USUAL, _WORST = "TCP, 1 byte, two threads", "TCP, 1 byte, one thread"
_FLOORS = {"this tracer": "empty programs, raw", "bpftrace": "empty programs"}
_SLICES = 400
_SLOW = {"perf trace -s": 0.05, "strace -c -w": 0.05}
_WARM_UP = Work("one", "tcp", 1, 20)
_COUNTED = Work("one", "tcp", 1, 800)

_TEXT = """
The workload is a C program (`tests/bench/calls.c`) that alternates sendto and recvfrom on loopback,
on one CPU. With one thread at both ends, only the calls are timed: this is the worst case for a
tracer. With two threads, each message causes a switch from one thread to the other, as between
client and server. The time of a round is that of its median slice of 100 calls, because other work
on the machine disturbs few slices.

*Empty programs* do nothing. Those without a suffix are attached to the tracepoints of these two
system calls, as bpftrace uses them. The *raw* ones are attached to the raw tracepoints `sys_enter`
and `sys_exit`, as this tracer uses them; these run at every system call of every process. The
bpftrace script is equivalent to this tracer except for the transport: a histogram for each system
call, failures by errno, and bytes. This tracer runs with its defaults and traces every operation of
one process.

Nanoseconds per call:

{times}

Calls per second relative to untraced, compared round by round:

{ratios}

Entering a BPF program is expensive in itself: empty programs make a TCP call with one thread
{empty:.0f} ns slower, and {raw:.0f} ns on raw tracepoints. This tracer makes it {ours:.0f} ns
slower in total.

The next table shows the kernel's own account (`run_time_ns`): the time spent in the programs per
traced call, entry and exit together. It includes neither the calls themselves nor the cost of
entering a program. The cost of the accounting is in the rows of the empty programs; the last column
subtracts it. Programs at raw tracepoints also run for other system calls of the machine, where
those of this tracer return early. Such runs are included in its time and runs, so the table
overstates its cost.

{account}
"""


_WHY_ADDED = """\
- *Added per call*: reading the clock twice is half of it, and BPF has no cheaper clock. Each read
  waits until all earlier instructions of the system call have finished; this explains most of what
  the steps below do not account for. Tried and kept: an array instead of a hash (from 88 ns to
  nothing measurable), plain loads instead of the read helper (147 to 12 ns), finding the thread by
  its stack instead of asking for its id (25 to 7 ns), finding the bucket without branches, one
  counter instead of two. Tried and dropped because they gained nothing: one counter less at the
  return, and arrays as a single value with its address in the program."""
_WHY_SLOWER = """\
- *TCP, 1 byte*: the difference between *empty programs, raw* and untraced is the kernel's cost of
  entering any two programs. It is more than half of the loss. Tried: the tracepoints of single
  system calls, which cost more to enter. The remaining option is fentry at the functions of the
  system calls, which the kernel measured here refuses."""


@dataclass(frozen=True)
class Round:
    """One round of one tracer: nanoseconds per call by workload, and the account if it uses BPF."""

    times: dict[str, float]
    account: Account | None


def measure(rounds: int) -> Section:
    """Let each tracer trace the same process, in alternation."""
    with Calls() as calls:
        results = in_turns({name: _way(name, calls) for name in PEERS if is_here(name)}, rounds)
    times = {
        (way, work): Figure(tuple(one.times[work] for one in results[way]))
        for way in results
        for work in _WORKS
    }
    ratios = {
        key: paired_ratio(times["untraced", key[1]], figure)
        for key, figure in times.items()
        if key[0] != "untraced"
    }
    added = _added(results)
    text = _TEXT.format(
        times=_by_work(times, ",.0f"),
        ratios=_by_work(ratios, ".3f"),
        account=_accounts(results, added),
        empty=_slower(times, "empty programs"),
        raw=_slower(times, "empty programs, raw"),
        ours=_slower(times, "this tracer"),
    )
    return Section(
        "The cost of tracing one call",
        text,
        list(_targets(added, ratios)),
        [_bars(times)],
    )


def _way(name: str, calls: Calls) -> Callable[[], Round]:
    size = int(_SLICES * _SLOW.get(name, 1))

    def once() -> Round:
        with PEERS[name](calls.pid) as holder:
            calls.ns_per_call(_WARM_UP)
            times = {work: calls.ns_per_call(Work(*of, size)) for work, of in _WORKS.items()}
            return Round(times, None if holder is None else _account(holder, calls))

    return once


def _account(holder: int, calls: Calls) -> Account:
    with run_statistics():
        return account(holder, calls, _COUNTED)


def _added(results: dict[str, list[Round]]) -> dict[str, Figure]:
    """The time of the programs per traced call, less that of as many runs of empty programs."""
    return {
        way: _beyond(results[way], results[floor])
        for way, floor in _FLOORS.items()
        if way in results
    }


def _beyond(way: list[Round], floor: list[Round]) -> Figure:
    added = []
    for one, empty in zip(way, floor, strict=True):
        assert one.account is not None
        assert empty.account is not None
        a_run = empty.account.nanoseconds / empty.account.runs
        added.append(one.account.nanoseconds - one.account.runs * a_run)
    return Figure(tuple(added))


def _targets(added: dict[str, Figure], ratios: dict[tuple[str, str], Figure]) -> Iterator[Target]:
    ours = added["this tracer"]
    yield Target(
        "added per traced call by `run_time_ns`, beyond the empty programs",
        "≤ 120 ns",
        f"{ours.text()} ns",
        ours.median <= 120,
        _WHY_ADDED,
    )
    if "bpftrace" in added:
        part = paired_ratio(ours, added["bpftrace"])
        yield Target(
            "the same, relative to bpftrace", "≤ 0.25", part.text(".2f"), part.median <= 0.25
        )
    for work in (_USUAL, _WORST):
        ratio = ratios["this tracer", work]
        met = ratio.median >= 0.94
        yield Target(f"{work}: traced / untraced", "≥ 0.94", ratio.text(".3f"), met, _WHY_SLOWER)


def _slower(times: dict[tuple[str, str], Figure], way: str) -> float:
    return times[way, _WORST].less(times["untraced", _WORST]).median


def _by_work(figures: dict[tuple[str, str], Figure], form: str) -> str:
    ways = list(dict.fromkeys(way for way, _ in figures))
    rows = [[way, *(figures[way, work].text(form) for work in _WORKS)] for way in ways]
    return table(["", *_WORKS], rows)


def _accounts(results: dict[str, list[Round]], added: dict[str, Figure]) -> str:
    rows = []
    for way, rounds in results.items():
        accounts = [one.account for one in rounds if one.account is not None]
        if accounts:
            total = Figure(tuple(account.nanoseconds for account in accounts))
            runs = Figure(tuple(account.runs for account in accounts))
            rows.append(
                [way, total.text(), runs.text(".1f"), added[way].text() if way in added else ""]
            )
    return table(["", "ns per traced call", "runs per traced call", "added, ns"], rows)


def _bars(times: dict[tuple[str, str], Figure]) -> Bars:
    base = times["untraced", _WORST].median
    bars = [
        (way, times[way, _WORST].median / base, f"{times[way, _WORST].median:,.0f} ns")
        for way, work in times
        if work == _WORST
    ]
    return Bars(f"A call, {_WORST}: nanoseconds", bars)
