# SPDX-License-Identifier: MIT
"""The tracers that are compared: each traces one process while its context lasts.

What a context gives is the process that holds the tracer's BPF programs, or None if it has none.

None of them is at work before its context's body begins: what tells so is asked of the kernel or
of the tracer, not waited for by the clock.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.calls import Calls, Work
from tracer.kernel import trial_programs
from tracer.kernel.capabilities import tracefs_directory
from tracer.kernel.libbpf import last_error, libbpf
from tracer.kernel.program_info import enable_run_statistics
from tracer.kernel.programs import ProgramType
from tracer.model.config import Config, Filter
from tracer.session import Session

__all__ = [
    "EMPTY_PROGRAM",
    "PEERS",
    "Account",
    "account",
    "bpftool",
    "is_here",
    "ours",
    "programs_held",
    "require",
    "run_statistics",
    "running",
]

_TIMEOUT_SECONDS = 30
_CALLS = ("sendto", "recvfrom")
_PLACES = tuple(f"sys_{way}_{call}" for call in _CALLS for way in ("enter", "exit"))
EMPTY_PROGRAM = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
_TRACEPOINT = 2  # PERF_TYPE_TRACEPOINT

_QUESTION = """
tracepoint:syscalls:sys_enter_sendto, tracepoint:syscalls:sys_enter_recvfrom /pid == $1/
{ @start[tid] = nsecs; }
tracepoint:syscalls:sys_exit_sendto, tracepoint:syscalls:sys_exit_recvfrom /@start[tid]/
{
  @duration_ns[probe] = hist(nsecs - @start[tid]);
  if (args->ret < 0) { @errors[probe, args->ret] = count(); }
  else { @bytes[probe] = sum(args->ret); }
  delete(@start[tid]);
}
"""


@contextlib.contextmanager
def untraced(_pid: int) -> Iterator[None]:
    yield None


@contextlib.contextmanager
def empty(_pid: int) -> Iterator[int]:
    """The floor: programs that do nothing, on the tracepoints that the others use."""
    with contextlib.ExitStack() as held:
        for place in _PLACES:
            number = int((tracefs_directory() / f"events/syscalls/{place}/id").read_text())
            program = held.enter_context(trial_programs.load(ProgramType.TRACEPOINT, EMPTY_PROGRAM))
            event = held.enter_context(trial_programs.open_event(_TRACEPOINT, number))
            trial_programs.attach_to_event(event, program)
        yield os.getpid()


@contextlib.contextmanager
def empty_raw(_pid: int) -> Iterator[int]:
    """The other floor: raw tracepoints, which every system call of the machine passes."""
    with contextlib.ExitStack() as held:
        for place in (b"sys_enter", b"sys_exit"):
            program = held.enter_context(trial_programs.load(_RAW_TRACEPOINT, EMPTY_PROGRAM))
            link = libbpf().bpf_raw_tracepoint_open(place, program)
            if link < 0:
                raise last_error()
            held.callback(os.close, link)
        yield os.getpid()


@contextlib.contextmanager
def ours(pid: int, *, mechanism: str = "tracepoint", follow_forks: bool = False) -> Iterator[int]:
    """All its labels, every operation traced, as by default; or with the function layer as well."""
    chosen = Filter(pids=(pid,), follow_forks=follow_forks)
    config = Config(filter=chosen, mechanism=mechanism, tracer_pid=os.getpid())
    with Session(config) as session:
        yield os.getpid()
        seen = session.snapshot()
    layers = [seen.operations] if mechanism == "tracepoint" else [seen.operations, seen.functions]
    if not all(any(series.aggregate.count for series in layer) for layer in layers):
        raise RuntimeError("the tracer counted nothing: what was measured is not tracing")


@contextlib.contextmanager
def bpftrace(pid: int) -> Iterator[int]:
    """A histogram by system call, failures by errno, and bytes; no transport."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "question.bt"
        script.write_text(_QUESTION)
        with running(["bpftrace", str(script), str(pid)], _tracepoints_of) as (holder, output):
            yield holder
    require("@duration_ns", output)


@contextlib.contextmanager
def perf_trace(pid: int) -> Iterator[None]:
    with running(["perf", "trace", "-s", "-p", str(pid)], _perf_events_of) as (_, output):
        yield None
    require("sendto", output)


@contextlib.contextmanager
def strace(pid: int) -> Iterator[None]:
    def attached(_tracer: int) -> bool:
        return f"TracerPid:\t{_tracer}\n" in Path(f"/proc/{pid}/status").read_text()

    with running(["strace", "-c", "-w", "-f", "-p", str(pid)], attached) as (_, output):
        yield None
    require("sendto", output)


PEERS: dict[str, Callable[[int], contextlib.AbstractContextManager[int | None]]] = {
    "untraced": untraced,
    "empty programs": empty,
    "empty programs, raw": empty_raw,
    "this tracer": ours,
    "bpftrace": bpftrace,
    "perf trace -s": perf_trace,
    "strace -c -w": strace,
}
"""By name: a function of a process' id that gives a context in which it is traced."""


def is_here(name: str) -> bool:
    """Whether the peer's program is installed; those without one are."""
    command = name.partition(" ")[0]
    return command not in ("bpftrace", "perf", "strace") or shutil.which(command) is not None


@contextlib.contextmanager
def running(
    command: list[str], ready: Callable[[int], bool], *, timeout: float = _TIMEOUT_SECONDS
) -> Iterator[tuple[int, list[str]]]:
    """A tracer from outside: its id; its output is in the list when the context has ended."""
    output: list[str] = []
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            deadline = time.monotonic() + timeout
            while not ready(process.pid):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} does not trace: {log.read()}")
                time.sleep(0.02)
            yield process.pid, output
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout)
        log.seek(0)
        output.append(log.read())


def require(word: str, output: list[str]) -> None:
    """Fail unless a tracer's output has it: it would not have traced."""
    if not any(word in text for text in output):
        raise RuntimeError(f'no "{word}" in a tracer\'s output: {output}')


def _tracepoints_of(pid: int) -> bool:
    attached = bpftool("perf", "show")
    return len([one for one in attached if one["pid"] == pid]) >= len(_PLACES)


def _perf_events_of(pid: int) -> bool:
    """perf has opened its events, and waits for what comes of them."""
    folder = Path(f"/proc/{pid}/fd")
    with contextlib.suppress(FileNotFoundError):
        events = [fd for fd in folder.iterdir() if "perf_event" in str(fd.readlink())]
        state = re.search(r"^State:\s+(\w)", Path(f"/proc/{pid}/status").read_text(), re.M)
        return len(events) >= 2 and state is not None and state[1] == "S"
    return False


@dataclass(frozen=True)
class Account:
    """For each traced call of some work: the kernel's nanoseconds and runs of all programs, and
    how long the call was in all, the accounting itself included.
    """

    nanoseconds: float
    runs: float
    wall_ns: float


def account(holder: int, calls: Calls, work: Work) -> Account:
    """Have the work done, with the statistics on, and see what a process' programs took."""
    watch = _Watch(holder)
    wall_ns = calls.ns_per_call(work, watch)
    # A program with few runs belongs to calls that the workload does not make.
    moves = [(ns, runs) for ns, runs in watch.moves if runs >= work.calls // 4]
    return Account(
        sum(ns for ns, _ in moves) / work.calls, sum(n for _, n in moves) / work.calls, wall_ns
    )


class _Watch:
    """By how much each of a process' programs has moved: nanoseconds and runs."""

    moves: list[tuple[int, int]]

    def __init__(self, holder: int) -> None:
        self._holder = holder

    def __enter__(self) -> None:
        self._before = _programs(self._holder)

    def __exit__(self, *_: object) -> None:
        after = _programs(self._holder)
        self.moves = [
            (after[number][0] - ns, after[number][1] - runs)
            for number, (ns, runs) in self._before.items()
        ]


def _programs(holder: int) -> dict[int, tuple[int, int]]:
    """Nanoseconds and runs, by id, of the programs that a process holds."""
    held = programs_held(holder)
    return {
        one["id"]: (one.get("run_time_ns", 0), one.get("run_cnt", 0))
        for one in bpftool("prog", "show")
        if one["id"] in held
    }


def programs_held(pid: int) -> set[int]:
    """The ids of the programs that a process has descriptors of, or of links to them.

    `bpftool perf` would know those at tracepoints and probes alone, and nothing of fentry.
    """
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one of the directory itself, if ours
            found |= set(re.findall(r"^prog_id:\s+(\d+)", path.read_text(), re.M))
    return {int(number) for number in found}


@contextlib.contextmanager
def run_statistics() -> Iterator[None]:
    """Have the kernel account for the programs' time; that itself adds some 20 ns a run."""
    descriptor = enable_run_statistics()
    try:
        yield
    finally:
        os.close(descriptor)


def bpftool(*words: str) -> list[dict[str, Any]]:
    """What it lists, such as `bpftool("prog", "show")`."""
    done = subprocess.run(
        ["bpftool", "--json", *words], capture_output=True, check=True, timeout=_TIMEOUT_SECONDS
    )
    return json.loads(done.stdout)
