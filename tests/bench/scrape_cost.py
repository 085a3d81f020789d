# SPDX-License-Identifier: MIT
"""The cost of a scrape including the kernel's maps, against prometheus_client's."""

import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.exposition import generate_latest

from tests.bench.report import Bars, Section, Target, table
from tests.bench.statistic import Figure, in_turns, paired_ratio
from tracer.exporter.render import BUCKET_BOUNDS, Format
from tracer.exporter.scrape import Scraper
from tracer.model.config import Config, Filter
from tracer.session import Session

__all__ = ["measure"]

_SERIES = (100, 1_000, 10_000, 50_000)
_LINES_OF_A_CELL = len(BUCKET_BOUNDS) + 4  # +Inf, count, sum and bytes
_LABELS = ("operation", "path", "transport", "port")
_SCRAPES_OF_A_ROUND = 3
_TARGET_SERIES = 10_000

_TEXT = """
The time from the request to the finished page as text: reading the kernel's maps, making the
snapshot, rendering the page. The series are real: sends on as many UDP ports, split by port. Every
series changes between two scrapes. A page always includes the tracer's own series, so the first row
has more lines than its name says. In the client's columns, prometheus_client's registry renders
histograms with the same bounds and labels from memory.

{times}
"""

_WHY = """\
- *A scrape*: a third of the time goes to reading the kernel's maps and making a snapshot of them,
  which prometheus_client does not do. The rest goes to writing 37 numbers for each series that has
  changed, at about the same cost as adding up its slots. Tried and kept: a template per series,
  building the page in one step, no garbage collection during a scrape, skipping CPUs that counted
  nothing."""

Times = dict[str, float]  # ms wall, ms cpu, lines


def measure(rounds: int) -> Section:
    """Measure both exporters with each number of series, in alternation."""
    sizes = {}
    for wanted in _SERIES:
        with _exporter(wanted) as ours:
            ways = {"ours": ours, "client": _client(wanted)}
            for way in ways.values():
                way()  # later scrapes reuse what the first one builds
            sizes[wanted] = in_turns(ways, rounds)
    return _section(sizes)


def _section(sizes: dict[int, dict[str, list[Times]]]) -> Section:
    rows, targets = [], []
    for wanted, results in sizes.items():
        wall = {way: Figure(tuple(t["wall_ms"] for t in times)) for way, times in results.items()}
        cpu = Figure(tuple(t["cpu_ms"] for t in results["ours"]))
        ratio = paired_ratio(wall["ours"], wall["client"])
        lines = results["ours"][0]["lines"], results["client"][0]["lines"]
        rows.append(
            [
                f"{wanted:,}",
                f"{lines[0]:,.0f}",
                wall["ours"].text(".1f"),
                cpu.text(".1f"),
                f"{lines[1]:,.0f}",
                wall["client"].text(".1f"),
                ratio.text(".2f"),
            ]
        )
        if wanted == _TARGET_SERIES:
            targets = list(_targets(wall["ours"], ratio))
    heads = ["series", "lines", "ms", "CPU ms", "client's lines", "client's ms", "ratio"]
    bars = [
        (
            "this exporter, 10,000 series",
            wall_of(sizes, "ours"),
            f"{wall_of(sizes, 'ours'):.1f} ms",
        ),
        ("prometheus_client", wall_of(sizes, "client"), f"{wall_of(sizes, 'client'):.1f} ms"),
    ]
    return Section(
        "A scrape", _TEXT.format(times=table(heads, rows)), targets, [Bars("A scrape: ms", bars)]
    )


def wall_of(sizes: dict[int, dict[str, list[Times]]], way: str) -> float:
    """The median with as many series as the target names, in ms."""
    return Figure(tuple(t["wall_ms"] for t in sizes[_TARGET_SERIES][way])).median


def _targets(ours: Figure, ratio: Figure) -> Iterator[Target]:
    what = "/metrics with 10,000 series"
    yield Target(what, "≤ 15 ms", f"{ours.text('.1f')} ms", ours.median <= 15)
    yield Target(
        f"{what}, relative to prometheus_client's registry",
        "≤ 0.1",
        ratio.text(".2f"),
        ratio.median <= 0.1,
        _WHY,
    )


@contextmanager
def _exporter(series: int) -> Iterator[Callable[[], Times]]:
    """A session with this many series; yields a function that changes all of them and scrapes."""
    ports = max(1, series // _LINES_OF_A_CELL)
    config = Config(
        filter=Filter(pids=(os.getpid(),)),
        operations=("send",),
        mechanism="tracepoint",
        label="port",
        label_values=2 * ports + 64,
    )
    senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(ports)]
    with Session(config) as session:
        for sender in senders:
            sender.bind(("127.0.0.1", 0))
        scraper = Scraper(session.snapshot)

        def move() -> None:
            for sender in senders:
                sender.sendto(b"x", sender.getsockname())
                sender.recv(1)

        yield _scrape(move, lambda: scraper.page(Format.PROMETHEUS, compressed=False))
    for sender in senders:
        sender.close()


def _client(series: int) -> Callable[[], Times]:
    registry = CollectorRegistry()
    bounds = tuple(float(bound) for bound in BUCKET_BOUNDS)
    histogram = Histogram("duration_seconds", "Time.", _LABELS, registry=registry, buckets=bounds)
    chance = random.Random(1)
    children = [
        histogram.labels("send", "user", "udp", str(port))
        for port in range(max(1, series // _LINES_OF_A_CELL))
    ]

    def move() -> None:
        for child in children:
            child.observe(chance.random() / 1000)

    return _scrape(move, lambda: generate_latest(registry))


def _scrape(move: Callable[[], None], page: Callable[[], bytes]) -> Callable[[], Times]:
    """Do some scrapes, each after a change of every series, and take the median."""

    def once() -> Times:
        times = []
        for _ in range(_SCRAPES_OF_A_ROUND):
            move()
            times.append(_timed(page))
        return {key: median(one[key] for one in times) for key in times[0]}

    return once


def _timed(page: Callable[[], bytes]) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    text = page()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    lines = sum(not line.startswith(b"#") for line in text.splitlines())
    return {"wall_ms": wall * 1e3, "cpu_ms": cpu * 1e3, "lines": lines}
