# SPDX-License-Identifier: MIT
"""The tracers that are compared: each traces one process while its context lasts.

A context yields the id of the process that holds the tracer's BPF programs, or None if there are
no programs. Each tracer is attached before the body of its context begins: the kernel or the tracer
itself is asked whether it is, there is no fixed waiting time.
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
_TRACEPOINTS = tuple(f"sys_{way}_{call}" for call in _CALLS for way in ("enter", "exit"))
EMPTY_PROGRAM = bytes.fromhex("b7000000000000009500000000000000")  # r0 = 0; exit
_RAW_TRACEPOINT = 17  # BPF_PROG_TYPE_RAW_TRACEPOINT
_TRACEPOINT = 2  # PERF_TYPE_TRACEPOINT

_SCRIPT = """
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
    """Programs that do nothing, on the tracepoints that bpftrace uses: its lower limit."""
    with contextlib.ExitStack() as held:
        for tracepoint in _TRACEPOINTS:
            number = int((tracefs_directory() / f"events/syscalls/{tracepoint}/id").read_text())
            program = held.enter_context(trial_programs.load(ProgramType.TRACEPOINT, EMPTY_PROGRAM))
            event = held.enter_context(trial_programs.open_event(_TRACEPOINT, number))
            trial_programs.attach_to_event(event, program)
        yield os.getpid()


@contextlib.contextmanager
def empty_raw(_pid: int) -> Iterator[int]:
    """Programs that do nothing, on the raw tracepoints that this tracer uses: its lower limit."""
    with contextlib.ExitStack() as held:
        for tracepoint in (b"sys_enter", b"sys_exit"):
            program = held.enter_context(trial_programs.load(_RAW_TRACEPOINT, EMPTY_PROGRAM))
            link = libbpf().bpf_raw_tracepoint_open(tracepoint, program)
            if link < 0:
                raise last_error()
            held.callback(os.close, link)
        yield os.getpid()


@contextlib.contextmanager
def ours(pid: int, *, mechanism: str = "tracepoint", follow_forks: bool = False) -> Iterator[int]:
    """This tracer with its defaults: every operation. `mechanism` can add the function layer."""
    chosen = Filter(pids=(pid,), follow_forks=follow_forks)
    config = Config(filter=chosen, mechanism=mechanism, tracer_pid=os.getpid())
    with Session(config) as session:
        yield os.getpid()
        seen = session.snapshot()
    layers = [seen.operations] if mechanism == "tracepoint" else [seen.operations, seen.functions]
    if not all(any(series.aggregate.count for series in layer) for layer in layers):
        raise RuntimeError("the tracer counted nothing, so the measurement is not of tracing")


@contextlib.contextmanager
def bpftrace(pid: int) -> Iterator[int]:
    """A histogram by system call, failures by errno, and bytes; no transport."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.bt"
        script.write_text(_SCRIPT)
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
"""By name: a function that takes a process id and returns a context in which it is traced."""


def is_here(name: str) -> bool:
    """Whether the program of this tracer is installed; true for those that need none."""
    command = name.partition(" ")[0]
    return command not in ("bpftrace", "perf", "strace") or shutil.which(command) is not None


@contextlib.contextmanager
def running(
    command: list[str], ready: Callable[[int], bool], *, timeout: float = _TIMEOUT_SECONDS
) -> Iterator[tuple[int, list[str]]]:
    """Run an external tracer. Yields its process id, and a list that gets its output at the end."""
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
                    raise RuntimeError(f"{command[0]} did not start to trace: {log.read()}")
                time.sleep(0.02)
            yield process.pid, output
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout)
        log.seek(0)
        output.append(log.read())


def require(word: str, output: list[str]) -> None:
    """Fail unless the output of a tracer has this word: without it, nothing was traced."""
    if not any(word in text for text in output):
        raise RuntimeError(f'cannot find "{word}" in the output of the tracer: {output}')


def _tracepoints_of(pid: int) -> bool:
    attached = bpftool("perf", "show")
    return len([one for one in attached if one["pid"] == pid]) >= len(_TRACEPOINTS)


def _perf_events_of(pid: int) -> bool:
    """Whether perf has opened its events and waits for them."""
    folder = Path(f"/proc/{pid}/fd")
    with contextlib.suppress(FileNotFoundError):
        events = [fd for fd in folder.iterdir() if "perf_event" in str(fd.readlink())]
        state = re.search(r"^State:\s+(\w)", Path(f"/proc/{pid}/status").read_text(), re.M)
        return len(events) >= 2 and state is not None and state[1] == "S"
    return False


@dataclass(frozen=True)
class Account:
    """Per traced call: nanoseconds and runs of all programs by the kernel's account, and the time
    of the whole call, which includes the accounting.
    """

    nanoseconds: float
    runs: float
    wall_ns: float


def account(holder: int, calls: Calls, work: Work) -> Account:
    """Do the work with statistics on, and return what the programs of a process took."""
    watch = _Watch(holder)
    wall_ns = calls.ns_per_call(work, watch)
    # Programs with few runs belong to system calls that the workload does not make.
    moves = [(ns, runs) for ns, runs in watch.moves if runs >= work.calls // 4]
    return Account(
        sum(ns for ns, _ in moves) / work.calls, sum(n for _, n in moves) / work.calls, wall_ns
    )


class _Watch:
    """The nanoseconds and runs that each program of a process gained while the context lasted."""

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
    """Nanoseconds and runs by program id, for the programs that a process holds."""
    held = programs_held(holder)
    return {
        one["id"]: (one.get("run_time_ns", 0), one.get("run_cnt", 0))
        for one in bpftool("prog", "show")
        if one["id"] in held
    }


def programs_held(pid: int) -> set[int]:
    """The ids of the programs that a process holds by a descriptor, or by a link to them.

    `bpftool perf` shows only those at tracepoints and probes, not those at fentry.
    """
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(
            FileNotFoundError
        ):  # the descriptor of the directory itself, in our own process
            found |= set(re.findall(r"^prog_id:\s+(\d+)", path.read_text(), re.M))
    return {int(number) for number in found}


@contextlib.contextmanager
def run_statistics() -> Iterator[None]:
    """Let the kernel account for the programs' time; this adds about 20 ns per run."""
    descriptor = enable_run_statistics()
    try:
        yield
    finally:
        os.close(descriptor)


def bpftool(*words: str) -> list[dict[str, Any]]:
    """The JSON that bpftool prints, e.g. for `bpftool("prog", "show")`."""
    done = subprocess.run(
        ["bpftool", "--json", *words], capture_output=True, check=True, timeout=_TIMEOUT_SECONDS
    )
    return json.loads(done.stdout)
