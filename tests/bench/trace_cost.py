# SPDX-License-Identifier: MIT
"""What tracing one call costs: this tracer against its floor and against its peers."""

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
The calls are made in C (`tests/bench/calls.c`), sendto and recvfrom in turns, on loopback, on one
CPU. With one thread at both ends nothing but the calls is timed, so this is tracing at its worst;
with two threads each message is a switch from one to the other, as between client and server. A
round's time is that of its median slice of 100 calls, which the machine's other work seldom hits.

*Empty programs* do nothing: one way on the tracepoints of these two calls, as bpftrace uses them;
the other, *raw*, on the raw tracepoints `sys_enter` and `sys_exit`, as this tracer uses them, which
every system call of every process passes. bpftrace answers the same question but for the transport:
a histogram for each system call, failures by errno, bytes. This tracer runs as by default, every
operation traced, on one process.

Nanoseconds per call:

{times}

Calls per second against untraced, round by round:

{ratios}

The way into the programs is dear by itself: empty ones make a TCP call of one thread {empty:.0f} ns
slower, those on raw tracepoints {raw:.0f} ns; this tracer makes it {ours:.0f} ns slower in all.

The kernel's own account (`run_time_ns`), in which neither the calls nor the way into a program are:
the programs' time for each traced call, entry and exit together. What the account itself takes is
in the rows of the empty programs, and taken off in the last column. Those at raw tracepoints run
for other system calls of the machine as well, which this tracer's end early; these are in its time
and its runs, and make it look dearer.

{account}
"""


_WHY_ADDED = """\
- *Added per call*: two readings of the clock are half of it, and there is no cheaper clock for a
  program. Each waits until all that the system call in between has begun is done, which is most of
  what the steps below do not explain. Tried and kept: array instead of hash (from 88 ns to nothing
  measurable), plain loads instead of the reading helper (147 to 12), the thread by its stack and
  not by asking who it is (25 to 7), a slot without branches, one counter where there were two.
  Tried and left, since nothing was gained: one counter less at the return, and arrays as one value
  each, whose address is in the program."""
_WHY_SLOWER = """\
- *TCP, 1 byte*: the difference between *empty programs, raw* and untraced is the kernel's way into
  any two programs, and more than half of what is lost. Tried: the tracepoints of single calls,
  whose way is longer. What is left would be fentry at the functions of the system calls, which the
  kernel measured here refuses."""


@dataclass(frozen=True)
class Round:
    """One way, once: nanoseconds per call of each work, and the account if it uses BPF."""

    times: dict[str, float]
    account: Account | None


def measure(rounds: int) -> Section:
    """Each way traces the same process in turn."""
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
    """What a way's programs took beyond so many runs of empty ones, for each traced call."""
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
        "added per traced call by `run_time_ns`, less the empty programs'",
        "≤ 120 ns",
        f"{ours.text()} ns",
        ours.median <= 120,
        _WHY_ADDED,
    )
    if "bpftrace" in added:
        part = paired_ratio(ours, added["bpftrace"])
        yield Target(
            "the same, against bpftrace's", "≤ 0.25", part.text(".2f"), part.median <= 0.25
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
