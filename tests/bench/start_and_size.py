# SPDX-License-Identifier: MIT
"""How soon the first call is counted, and how much memory the tracer takes."""

import json
import os
import subprocess
import time

from tests.bench import peers
from tests.bench.calls import program
from tests.bench.exporter import SCRAPES, TRACE, exporter
from tests.bench.report import Section, Target, table
from tests.bench.statistic import Figure

__all__ = ["measure"]

_TIMEOUT_SECONDS = 60

_TEXT = """
{figures}

The command is `lunatik-socket trace -- COMMAND`; the time ends when the command's first socket call
has been counted. The exporter's memory is its resident size after {scrapes} scrapes. The maps'
memory is what the kernel reports for the maps that the exporter's descriptors hold, on {cpus} CPUs.
"""


def measure(rounds: int) -> Section:
    """Measure each figure on its own; there is nothing to compare with."""
    starts = Figure(tuple(_seconds_to_first_call() for _ in range(rounds)))
    sizes = [_sizes() for _ in range(3)]
    resident = Figure(tuple(size[0] for size in sizes))
    maps = Figure(tuple(size[1] for size in sizes))
    figures = [
        ["command to first counted call", f"{starts.text('.2f')} s"],
        ["exporter, resident", f"{resident.text('.1f')} MB"],
        ["kernel's maps", f"{maps.text('.2f')} MB"],
    ]
    text = _TEXT.format(figures=table(["", ""], figures), scrapes=SCRAPES, cpus=os.cpu_count())
    targets = [
        Target(figures[0][0], "≤ 1.0 s", figures[0][1], starts.median <= 1.0),
        Target("resident memory of the exporter", "≤ 40 MB", figures[1][1], resident.median <= 40),
        Target("kernel memory of the default maps", "≤ 4 MB", figures[2][1], maps.median <= 4),
    ]
    return Section("Start and size", text, targets)


def _seconds_to_first_call() -> float:
    begun = time.monotonic_ns()
    done = subprocess.run(
        [*TRACE, "--quiet", "--no-metrics", "--output", "/dev/fd/2", "--", program(), "now"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=True,
    )
    counted = {one["operation"]: one["count"] for one in json.loads(done.stderr)["operations"]}
    if counted.get("new") != 1:
        raise RuntimeError(f"the first call was not counted: {counted}")
    return (int(done.stdout) - begun) / 1e9


def _sizes() -> tuple[float, float]:
    """The exporter's resident memory and the maps', in MB."""
    with exporter() as tracer:
        tracer.scrape()
        return tracer.resident_mb(), _bytes_of_maps(tracer.pid) / 1e6


def _bytes_of_maps(pid: int) -> int:
    """The memory of the maps of all programs that the process holds, as the kernel reports it."""
    held = peers.programs_held(pid)
    programs = [one for one in peers.bpftool("prog", "show") if one["id"] in held]
    ids = {number for one in programs for number in one.get("map_ids", [])}
    return sum(one["bytes_memlock"] for one in peers.bpftool("map", "show") if one["id"] in ids)
