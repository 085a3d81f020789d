# SPDX-License-Identifier: MIT
"""Whether tracing a call costs more when there are more sockets, processes and calls."""

import re
from dataclasses import dataclass
from functools import partial

from tests.bench import peers
from tests.bench.calls import Calls, Work
from tests.bench.exporter import Exporter, exporter
from tests.bench.report import Section, Target, table
from tests.bench.statistic import Figure, in_turns, paired_ratio

__all__ = ["counted", "growth_target", "measure"]

_SOCKETS = {n: Work("one", "tcp", 1, 200, n // 2) for n in (2, 20, 200, 2_000, 10_000)}
_PROCESSES = {n: Work("many", "tcp", 1, 4_000, n) for n in (1, 10, 100, 500)}
_WARM_UP = Work("one", "tcp", 1, 20)
_ORDER = Work("one", "tcp", 1, 1_000)
_ORDERS_OF_A_MILLION = 10
_MILLIONS = 10
_COUNT = r'^lunatik_socket_operation_duration_seconds_count{.*operation="(?:send|recv)".*} (\d+)'

_HEADS = ["untraced, ns", "traced, ns", "added, ns", "programs by `run_time_ns`"]

_TEXT = """
TCP, 1 byte, both ends in one thread. The untraced time of a call grows too, because its data no
longer fits into the CPU's caches. The programs read some of the same memory, and read it first.
*Added* is the traced time less the untraced time of the same round; both are measured one right
after the other. The last column is the time of the programs per call by the kernel's account,
including the cost of the account. Opening and closing the sockets is not included in either.

One process that uses this many sockets in turn:

{sockets}

This many processes on one CPU, each with a connection to itself, taking turns of four calls.
Passing the turn on is not part of the times, but it is part of the account: two more system calls
per turn, which the programs see and ignore.

{processes}

One process makes {millions} million calls, in batches of 100,000. The exporter runs beside it and
is scraped after each million. The kernel's account is on.

{calls}
"""


@dataclass(frozen=True)
class _Cost:
    """One call in one round: its time, and the time of the programs if it was traced."""

    wall_ns: float
    account_ns: float


@dataclass(frozen=True)
class _Size:
    """The figures of one size, one value per round."""

    untraced: Figure
    traced: Figure
    account: Figure

    @property
    def added(self) -> Figure:
        return self.traced.less(self.untraced)

    def row(self, name: str) -> list[str]:
        figures = (self.untraced, self.traced, self.added, self.account)
        return [name, *(figure.text() for figure in figures)]


@dataclass(frozen=True)
class _Million:
    """Ten orders: ns per call, the programs' part of it, and the exporter's memory afterwards."""

    times: Figure
    account: Figure
    resident_mb: float

    @property
    def share(self) -> Figure:
        """The programs' part of a call, in percent."""
        return Figure(tuple(100 * part for part in paired_ratio(self.account, self.times).values))


def measure(rounds: int) -> Section:
    """Measure sockets and processes untraced and traced, in alternation; then the million calls."""
    sizes = _by_work([*_SOCKETS.values(), *_PROCESSES.values()], rounds)
    sockets = {n: sizes[work] for n, work in _SOCKETS.items()}
    processes = {n: sizes[work] for n, work in _PROCESSES.items()}
    before, millions = _millions(min(_MILLIONS, rounds))
    text = _TEXT.format(
        sockets=_table("sockets", sockets),
        processes=_table("processes", processes),
        millions=len(millions),
        calls=_table_of_millions(before, millions),
    )
    targets = [
        _grown("10,000 sockets, beyond that with 2", sockets[10_000], sockets[2]),
        _grown("500 processes, beyond that with 1", processes[500], processes[1]),
    ]
    # A share, because the machine itself gets faster or slower between the first and the last.
    last = f"in the last of {len(millions)} million calls, beyond that in the first"
    grown = millions[-1].share.less(millions[0].share)
    targets.append(growth_target(f"the programs' share of a call {last}", grown, "%", ".1f"))
    return Section("As sockets, processes and calls grow", text, targets)


def _by_work(works: list[Work], rounds: int) -> dict[Work, _Size]:
    """Each round does all workloads untraced and traced, one right after the other."""
    with Calls() as calls:
        ways = {
            "untraced": partial(_untraced, calls, works),
            "traced": partial(_traced, calls, works),
        }
        results = in_turns(ways, rounds)
    plain, traced = results["untraced"], results["traced"]
    return {
        work: _Size(
            Figure(tuple(one[work].wall_ns for one in plain)),
            Figure(tuple(one[work].wall_ns for one in traced)),
            Figure(tuple(one[work].account_ns for one in traced)),
        )
        for work in works
    }


def _untraced(calls: Calls, works: list[Work]) -> dict[Work, _Cost]:
    return {work: _Cost(calls.ns_per_call(work), 0) for work in works}


def _traced(calls: Calls, works: list[Work]) -> dict[Work, _Cost]:
    with peers.ours(calls.pid, follow_forks=True) as holder:
        calls.ns_per_call(_WARM_UP)
        wall = {work: calls.ns_per_call(work) for work in works}
        with peers.run_statistics():
            seen = {work: peers.account(holder, calls, work).nanoseconds for work in works}
    return {work: _Cost(wall[work], seen[work]) for work in works}


def _millions(number: int) -> tuple[float, list[_Million]]:
    """The exporter's memory before the first million, and the figures of each million."""
    with (
        Calls() as calls,
        exporter("--pid", str(calls.pid), "--mechanism", "tracepoint") as tracer,
        peers.run_statistics(),
    ):
        calls.ns_per_call(_WARM_UP)
        tracer.scrape()
        before = tracer.resident_mb()
        millions = [_million(calls, tracer) for _ in range(number)]
        made = number * _ORDERS_OF_A_MILLION * _ORDER.calls
        if counted(tracer.scrape(1)) < made:
            raise RuntimeError(f"the tracer counted fewer calls than the {made:,} that were made")
    return before, millions


def _million(calls: Calls, tracer: Exporter) -> _Million:
    seen = [peers.account(tracer.pid, calls, _ORDER) for _ in range(_ORDERS_OF_A_MILLION)]
    tracer.scrape()
    return _Million(
        Figure(tuple(one.wall_ns for one in seen)),
        Figure(tuple(one.nanoseconds for one in seen)),
        tracer.resident_mb(),
    )


def counted(page: str) -> int:
    """The number of sends and receives on the exporter's page."""
    found = re.findall(_COUNT, page, re.M)
    return sum(map(int, found))


def _table(what: str, sizes: dict[int, _Size]) -> str:
    return table([what, *_HEADS], [size.row(f"{n:,}") for n, size in sizes.items()])


def _table_of_millions(before: float, millions: list[_Million]) -> str:
    first, last = millions[0], millions[-1]
    heads = ["", "first million", f"million {len(millions)}", "last minus first"]
    rows = [
        [what, then.text(), now.text(), now.less(then).text()]
        for what, then, now in (
            ("a call, ns", first.times, last.times),
            ("the programs' part of it, ns", first.account, last.account),
        )
    ]
    memory = (first.resident_mb, last.resident_mb, last.resident_mb - first.resident_mb)
    rows.append(["exporter, resident, MB", *(f"{mb:.1f}" for mb in memory)])
    return table(heads, rows) + f"\n\nBefore the first million, the exporter used {before:.1f} MB."


def _grown(what: str, large: _Size, small: _Size) -> Target:
    return growth_target(f"added per call with {what}", large.added.less(small.added))


_WHY = """\
- *Growth*: when many sockets or processes take turns, neither the kernel's data of a socket and a
  task nor the tracer's 64 bytes per thread are in the caches when they are needed. No look-up gets
  longer: the programs take the same time with 2,000 and with 10,000 sockets."""


def growth_target(what: str, growth: Figure, unit: str = "ns", form: str = ",.0f") -> Target:
    low, _ = growth.interval
    return Target(what, "0 within the interval", f"{growth.text(form)} {unit}", low <= 0, _WHY)
