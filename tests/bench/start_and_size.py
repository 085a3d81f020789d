"""How soon it counts, how much memory it takes, and whether many sockets make a call dearer."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.bench import peers
from tests.bench.calls import Calls, Work, program
from tests.bench.report import Section, Target, table
from tests.bench.statistic import Figure, in_turns

__all__ = ["measure"]

_COMMAND = [str(Path(sys.executable).with_name("lunatik-socket")), "trace"]
_TIMEOUT_SECONDS = 60
_SCRAPES = 23
_SOCKETS = (2, 20, 200, 2_000, 10_000)
_CALLS_OF_A_SIZE = 200  # slices of 100 calls

_HEADS = ["sockets", "untraced, ns", "traced, ns", "added, ns", "programs by `run_time_ns`"]

_TEXT = """
{figures}

The command is `lunatik-socket trace -- COMMAND`; the time ends when the command's first system call
on a socket has been counted. The exporter's memory is what is resident after {scrapes} scrapes, the
maps' what the kernel says of those that its descriptors hold, on {cpus} CPUs.

One call while the process goes round so many sockets (1 byte, TCP, one thread). The call's own cost
grows, since the sockets no longer fit into the CPU's caches, and the programs read some of the same
memory, first. Sizes are in turns, but all untraced rounds come before the traced ones here, so that
*added* bears what the machine did meanwhile; the kernel's account does not.

{sockets}
"""


def measure(rounds: int) -> Section:
    """Start and memory on their own; the numbers of sockets in turns."""
    starts = Figure(tuple(_seconds_to_first_call() for _ in range(rounds)))
    sizes = [_sizes() for _ in range(3)]
    resident = Figure(tuple(size[0] for size in sizes))
    maps = Figure(tuple(size[1] for size in sizes))
    figures = [
        ["command to first counted call", f"{starts.text('.2f')} s"],
        ["exporter, resident", f"{resident.text('.1f')} MB"],
        ["kernel's maps", f"{maps.text('.2f')} MB"],
    ]
    added, rows = _sockets(rounds)
    growth = added[-1].less(added[0])
    text = _TEXT.format(
        figures=table(["", ""], figures),
        scrapes=_SCRAPES,
        cpus=os.cpu_count(),
        sockets=table(_HEADS, rows),
    )
    low, _ = growth.interval
    targets = [
        Target(figures[0][0], "≤ 1.0 s", figures[0][1], starts.median <= 1.0),
        Target("resident memory of the exporter", "≤ 40 MB", figures[1][1], resident.median <= 40),
        Target("kernel memory of the default maps", "≤ 4 MB", figures[2][1], maps.median <= 4),
        Target(
            "added per call with 10,000 sockets, less with 2",
            "0 within the interval",
            f"{growth.text()} ns",
            low <= 0,
        ),
    ]
    return Section("Start and size", text, targets)


def _seconds_to_first_call() -> float:
    begun = time.monotonic_ns()
    done = subprocess.run(
        [*_COMMAND, "--quiet", "--no-metrics", "--output", "/dev/fd/2", "--", program(), "now"],
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
    with subprocess.Popen(
        [*_COMMAND, "--metrics", "127.0.0.1:0", "--interval", "60"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = _address(process)
            for _ in range(_SCRAPES):
                with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
                    answer.read()
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            assert found is not None
            return int(found[1]) * 1024 / 1e6, _bytes_of_maps(process.pid) / 1e6
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=_TIMEOUT_SECONDS)


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://\S+/metrics", line):
            return found[0]
    raise RuntimeError("the tracer ended without saying where its metrics are")


def _bytes_of_maps(pid: int) -> int:
    """What the maps of all programs take that the process holds, as the kernel says."""
    held = {
        int(found[1])
        for path in Path(f"/proc/{pid}/fdinfo").iterdir()
        if (found := re.search(r"^prog_id:\s+(\d+)", path.read_text(), re.M))
    }
    programs = [one for one in peers.bpftool("prog", "show") if one["id"] in held]
    ids = {number for one in programs for number in one.get("map_ids", [])}
    return sum(one["bytes_memlock"] for one in peers.bpftool("map", "show") if one["id"] in ids)


def _sockets(rounds: int) -> tuple[list[Figure], list[list[str]]]:
    """For each number of sockets: what tracing added, and a row of the table."""
    with Calls() as calls:
        plain = _figures(_works(calls), rounds)
        with peers.ours(calls.pid) as holder:
            traced = _figures(_works(calls), rounds)
            with peers.run_statistics():
                accounts = _figures(_works(calls, holder), rounds)
    added = {name: traced[name].less(plain[name]) for name in plain}
    columns = (plain, traced, added, accounts)
    rows = [[name, *(column[name].text() for column in columns)] for name in plain]
    return list(added.values()), rows


def _figures(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, Figure]:
    return {name: Figure(tuple(values)) for name, values in in_turns(works, rounds).items()}


def _works(calls: Calls, holder: int | None = None) -> dict[str, Callable[[], float]]:
    def way(sockets: int) -> Callable[[], float]:
        work = Work("one", "tcp", 1, _CALLS_OF_A_SIZE, sockets // 2)
        if holder is None:
            return lambda: calls.ns_per_call(work)
        return lambda: peers.account(holder, calls, work).nanoseconds

    return {f"{sockets:,}": way(sockets) for sockets in _SOCKETS}
