# SPDX-License-Identifier: MIT
"""Runs inside the virtual machine: measures the cost of tracing three kernel functions.

    python -m tests.bench.function_rounds ROUNDS RESULTS.json

function_cost.py starts it. Under emulation a tracer takes ten seconds to start, and the load of the
host changes meanwhile. So each tracer is started once, and the programs that it loaded are kept
with their maps when it ends. Then these programs are attached and detached here, which is quick:
the tracers alternate within seconds, and a call is timed just before, during and just after.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tests.bench.calls import Calls, Work
from tests.bench.peers import (
    EMPTY_PROGRAM,
    bpftool,
    ours,
    programs_held,
    require,
    run_statistics,
    running,
)
from tests.bench.statistic import in_turns
from tracer.kernel import trial_programs
from tracer.kernel.btf import KernelTypes
from tracer.kernel.libbpf import last_error, libbpf
from tracer.kernel.program_info import program_info
from tracer.kernel.programs import AttachType, ProgramType, load_program
from tracer.loading.source import bpf_directory

__all__ = [
    "BCC",
    "BCC_NESTED",
    "BPFTRACE",
    "EMPTY_FENTRY",
    "EMPTY_KPROBE",
    "FENTRY",
    "KPROBE",
    "OPERATIONS",
    "WAYS",
    "Block",
]

EMPTY_KPROBE = "empty programs, kprobe"
EMPTY_FENTRY = "empty programs, fentry"
OPERATIONS = "this tracer, operations alone"
KPROBE = "this tracer, kprobe"
FENTRY = "this tracer, fentry"
BCC = "bcc's funclatency"
BCC_NESTED = "bcc's funclatency -F -l 4"
BPFTRACE = "bpftrace"

_FUNCTIONS = ("tcp_sendmsg", "sock_recvmsg", "tcp_recvmsg")
_SYSTEM_CALLS = ("sys_enter", "sys_exit")
_PATTERN = f"^({'|'.join(_FUNCTIONS)})$"
_KPROBES = Path("/sys/bus/event_source/devices/kprobe/type")
_TIMEOUT_SECONDS = 90
_NAME_BYTES = 15  # the kernel keeps this much of a program's name

_MEASUREMENTS = 6
_WORK = Work("one", "tcp", 1, 10)


@dataclass(frozen=True)
class Block:
    """One round of one tracer: ns per system call without and with it, and the kernel's account."""

    untraced_ns: float
    traced_ns: float
    ns_per_run: float
    runs_per_call: float


@dataclass(frozen=True)
class _Probe:
    """A program's descriptor and its target. A trampoline program has its target built in."""

    kind: str  # kprobe, kretprobe, raw_tracepoint, tracing
    target: str
    program: int

    @property
    def is_at_function(self) -> bool:
        return self.target not in _SYSTEM_CALLS


def main() -> None:
    """Load everything, measure all tracers in alternation, and write the blocks by tracer."""
    rounds, results = int(sys.argv[1]), Path(sys.argv[2])
    with Calls() as calls:
        ways = {name: partial(_block, calls, load(calls)) for name, load in WAYS.items()}
        blocks = in_turns(ways, rounds)
    results.write_text(json.dumps({name: [asdict(one) for one in blocks[name]] for name in blocks}))


def _block(calls: Calls, probes: list[_Probe]) -> Block:
    before = _least_ns(calls)
    with contextlib.ExitStack() as attached:
        for probe in probes:
            _attach(probe, attached)
        traced = _least_ns(calls)
        with run_statistics():
            ns, runs = _account(calls, _programs_at_functions(probes))
    return Block((before + _least_ns(calls)) / 2, traced, ns, runs)


def _least_ns(calls: Calls) -> float:
    """The minimum of some measurements: other load on the host can only add time."""
    return min(calls.ns_per_call(_WORK) for _ in range(_MEASUREMENTS))


def _programs_at_functions(probes: list[_Probe]) -> list[int]:
    """One descriptor of each program: some are attached to several functions."""
    found = {program_info(one.program).id: one.program for one in probes if one.is_at_function}
    return list(found.values())


def _account(calls: Calls, programs: list[int]) -> tuple[float, float]:
    """ns per run of these programs, and runs per system call."""
    seen = []

    @contextlib.contextmanager
    def watch() -> Iterator[None]:
        seen.append([program_info(program) for program in programs])
        yield
        seen.append([program_info(program) for program in programs])

    calls.ns_per_call(_WORK, watch())
    pairs = list(zip(*seen, strict=True))
    ns = sum(after.run_time_ns - before.run_time_ns for before, after in pairs)
    runs = sum(after.run_count - before.run_count for before, after in pairs)
    return ns / runs if runs else 0, runs / _WORK.calls


def _attach(probe: _Probe, attached: contextlib.ExitStack) -> None:
    if probe.kind == "tracing":
        attached.enter_context(trial_programs.attach(probe.program))
    elif probe.kind == "raw_tracepoint":
        attached.enter_context(trial_programs.attach(probe.program, probe.target))
    else:
        event = trial_programs.open_event(
            int(_KPROBES.read_text()), int(probe.kind == "kretprobe"), probe.target
        )
        trial_programs.attach_to_event(attached.enter_context(event), probe.program)


def _empty_kprobe(_calls: Calls) -> list[_Probe]:
    program = load_program(ProgramType.KPROBE, EMPTY_PROGRAM, name="empty")
    return [_Probe(kind, name, program) for kind in ("kretprobe", "kprobe") for name in _FUNCTIONS]


def _empty_fentry(_calls: Calls) -> list[_Probe]:
    probes = []
    with KernelTypes() as types:
        for attach_type in (AttachType.FEXIT, AttachType.FENTRY):
            for name in _FUNCTIONS:
                number = types.function_id(name)
                assert number is not None
                program = load_program(
                    ProgramType.TRACING,
                    EMPTY_PROGRAM,
                    name="empty",
                    attach_type=attach_type,
                    function=number,
                )
                probes.append(_Probe("tracing", name, program))
    return probes


def _ours(calls: Calls, *, mechanism: str) -> list[_Probe]:
    with ours(calls.pid, mechanism=mechanism) as holder:
        calls.ns_per_call(_WORK)
        return _kept(holder, mechanism != "tracepoint")


def _funclatency(calls: Calls, *options: str) -> list[_Probe]:
    command = ["funclatency-bpfcc", *options, "-p", str(calls.pid), "-r", _PATTERN]
    with (
        _headers_for_bcc(),
        running(command, _all_attached, timeout=_TIMEOUT_SECONDS) as (holder, output),
    ):
        calls.ns_per_call(_WORK)
        probes = _kept(holder)
    require("Function = " if options else "avg = ", output)
    return probes


def _bpftrace(calls: Calls) -> list[_Probe]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "functions.bt"
        script.write_text("".join(_script(name) for name in _FUNCTIONS))
        command = ["bpftrace", str(script), str(calls.pid)]
        with running(command, _all_attached, timeout=_TIMEOUT_SECONDS) as (holder, output):
            calls.ns_per_call(_WORK)
            probes = _kept(holder)
    for name in _FUNCTIONS:
        require(f"@duration_ns[kretprobe:{name}]", output)
    return probes


def _script(name: str) -> str:
    """Each function has its own map of start times, because the functions nest."""
    return (
        f"kprobe:{name} /pid == $1/ {{ @{name}[tid] = nsecs; }}\n"
        f"kretprobe:{name} /@{name}[tid]/ "
        f"{{ @duration_ns[probe] = hist(nsecs - @{name}[tid]); delete(@{name}[tid]); }}\n"
    )


def _all_attached(pid: int) -> bool:
    return len([one for one in bpftool("perf", "show") if one["pid"] == pid]) == 2 * len(_FUNCTIONS)


@contextlib.contextmanager
def _headers_for_bcc() -> Iterator[None]:
    """The project's headers are enough for funclatency, except one that may be empty."""
    with tempfile.TemporaryDirectory() as folder:
        headers = shutil.copytree(bpf_directory() / "kernel_headers", Path(folder) / "headers")
        (headers / "include/uapi/linux/ptrace.h").touch()
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
        yield


def _kept(holder: int, with_functions: bool = True) -> list[_Probe]:
    """The programs of a process that the workload passes; they stay loaded when it ends."""
    targets = (*_SYSTEM_CALLS, *_FUNCTIONS)
    kept = [
        _Probe(one["fd_type"], target, _descriptor(one["prog_id"]))
        for one in bpftool("perf", "show")
        if one["pid"] == holder
        and (target := one.get("func") or one.get("tracepoint", "")) in targets
    ]
    # Programs on trampolines are not perf events, so `bpftool perf` does not show them.
    names = {f"{kind}_{name}"[:_NAME_BYTES] for kind in ("fexit", "fentry") for name in _FUNCTIONS}
    held = programs_held(holder)
    kept += [
        _Probe("tracing", one["name"], _descriptor(one["id"]))
        for one in bpftool("prog", "show")
        if one["id"] in held and one.get("name") in names
    ]
    at_functions = [probe for probe in kept if probe.is_at_function]
    if len(at_functions) != 2 * len(_FUNCTIONS) * with_functions:
        raise RuntimeError(
            f"expected an entry and a return program for each function, found {at_functions}"
        )
    return kept


def _descriptor(program: int) -> int:
    descriptor: int = libbpf().bpf_prog_get_fd_by_id(program)
    if descriptor < 0:
        raise last_error()
    return descriptor


WAYS: dict[str, Callable[[Calls], list[_Probe]]] = {
    EMPTY_KPROBE: _empty_kprobe,
    EMPTY_FENTRY: _empty_fentry,
    OPERATIONS: partial(_ours, mechanism="tracepoint"),
    KPROBE: partial(_ours, mechanism="kprobe"),
    FENTRY: partial(_ours, mechanism="fentry"),
    BCC: _funclatency,
    BCC_NESTED: lambda calls: _funclatency(calls, "-F", "-l", "4"),
    BPFTRACE: _bpftrace,
}
"""By name: a function that traces the workload's process once and keeps the programs."""


if __name__ == "__main__":
    main()
