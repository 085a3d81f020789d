"""Inside the virtual machine: what it costs to trace three functions of the kernel, way by way.

    python -m tests.bench.function_rounds TURNS RESULTS.json

Started by function_cost.py. To start a tracer takes ten seconds under emulation, so each is started
once a turn, and what a call takes is measured just before, meanwhile and just after.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tests.bench.calls import Calls, Work
from tests.bench.peers import account, bpftool, ours, require, run_statistics, running, untraced
from tests.bench.statistic import in_turns
from tracer.program import bpf_directory

__all__ = ["BCC", "BCC_NESTED", "BPFTRACE", "FENTRY", "KPROBE", "OPERATIONS", "WAYS", "Block"]

OPERATIONS = "this tracer, operations alone"
KPROBE = "this tracer, kprobe"
FENTRY = "this tracer, fentry"
BCC = "bcc's funclatency"
BCC_NESTED = "bcc's funclatency -F -l 4"
BPFTRACE = "bpftrace"

_FUNCTIONS = ("tcp_sendmsg", "sock_recvmsg", "tcp_recvmsg")
_PATTERN = f"^({'|'.join(_FUNCTIONS)})$"
_TIMEOUT_SECONDS = 90
_MEASUREMENTS = 15
_WORK = Work("one", "tcp", 1, 20)
_COUNTED = Work("one", "tcp", 1, 40)
_OPERATION_LAYER = ("enter_system_", "exit_system_")  # programs of ours that are at no function


@dataclass(frozen=True)
class Block:
    """One way, once: ns per system call without and with it, and the programs' own account."""

    untraced_ns: float
    traced_ns: float
    ns_per_run: float
    runs_per_call: float
    start_seconds: float


def main() -> None:
    """Measure all ways in turns, and write the blocks by way."""
    turns, results = int(sys.argv[1]), Path(sys.argv[2])
    with _headers_for_bcc(), Calls() as calls:
        ways = {name: partial(_block, way, calls) for name, way in WAYS.items()}
        blocks = in_turns(ways, turns)
    results.write_text(json.dumps({name: [asdict(one) for one in blocks[name]] for name in blocks}))


Way = Callable[[int], contextlib.AbstractContextManager[int | None]]


def _block(way: Way, calls: Calls) -> Block:
    before = _least_ns(calls)
    begun = time.monotonic()
    with way(calls.pid) as holder:
        started = time.monotonic() - begun
        traced = _least_ns(calls)
        with run_statistics():
            seen = holder and account(holder, calls, _COUNTED, without=_OPERATION_LAYER)
    untraced_ns = (before + _least_ns(calls)) / 2
    if not seen or not seen.runs:
        return Block(untraced_ns, traced, 0, 0, started)
    return Block(untraced_ns, traced, seen.nanoseconds / seen.runs, seen.runs, started)


def _least_ns(calls: Calls) -> float:
    """Of some measurements the least: what the host does beside only adds."""
    return min(calls.ns_per_call(_WORK) for _ in range(_MEASUREMENTS))


@contextlib.contextmanager
def _funclatency(*options: str, pid: int) -> Iterator[int]:
    command = ["funclatency-bpfcc", *options, "-p", str(pid), "-r", _PATTERN]
    with running(command, _all_attached, timeout=_TIMEOUT_SECONDS) as (holder, output):
        yield holder
    require("Function = " if options else "avg = ", output)


@contextlib.contextmanager
def _bpftrace(pid: int) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "functions.bt"
        script.write_text("".join(_question(name) for name in _FUNCTIONS))
        command = ["bpftrace", str(script), str(pid)]
        with running(command, _all_attached, timeout=_TIMEOUT_SECONDS) as (holder, output):
            yield holder
    for name in _FUNCTIONS:
        require(f"@duration_ns[kretprobe:{name}]", output)


def _question(name: str) -> str:
    """A map of starts for each function, since they nest."""
    return (
        f"kprobe:{name} /pid == $1/ {{ @{name}[tid] = nsecs; }}\n"
        f"kretprobe:{name} /@{name}[tid]/ "
        f"{{ @duration_ns[probe] = hist(nsecs - @{name}[tid]); delete(@{name}[tid]); }}\n"
    )


def _all_attached(pid: int) -> bool:
    attached = [one for one in bpftool("perf", "show") if one["pid"] == pid]
    return len(attached) == 2 * len(_FUNCTIONS)


@contextlib.contextmanager
def _headers_for_bcc() -> Iterator[None]:
    """The project's few headers are enough for funclatency, but for one that it need only find."""
    with tempfile.TemporaryDirectory() as folder:
        headers = shutil.copytree(bpf_directory() / "kernel_headers", Path(folder) / "headers")
        (headers / "include/uapi/linux/ptrace.h").touch()
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
        yield


def _funclatency_of(*options: str) -> Way:
    return lambda pid: _funclatency(*options, pid=pid)


WAYS: dict[str, Way] = {
    "untraced": untraced,
    OPERATIONS: ours,
    KPROBE: partial(ours, mechanism="kprobe"),
    FENTRY: partial(ours, mechanism="fentry"),
    BCC: _funclatency_of(),
    BCC_NESTED: _funclatency_of("-F", "-l", "4"),
    BPFTRACE: _bpftrace,
}
"""By name: a function of a process' id that gives a context in which its functions are traced."""


if __name__ == "__main__":
    main()
