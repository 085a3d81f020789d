# SPDX-License-Identifier: MIT
"""The settings of a tracing session, shared by command line, loader and session."""

from dataclasses import dataclass, field

__all__ = ["FUNCTION_MECHANISMS", "LABELS", "Config", "Filter"]

FUNCTION_MECHANISMS = ("auto", "tracepoint", "kprobe", "fentry")
"""How to attach the function layer; "tracepoint" means without a function layer."""

LABELS = ("comm", "pid", "cgroup", "port")
"""Labels that series can have besides operation, path and transport."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls count: those that match one of the values of each filter that is set.

    Without any filter, calls of all processes but the tracer count. `pids` are thread group ids in
    the initial PID namespace; with `follow_forks`, the children that they start from now on count
    too. `comms` are thread names of at most 15 bytes, or patterns of them
    (`tracer.model.thread_names`). `cgroup` is a directory of the cgroup2 file
    system; the cgroups below it count too.
    """

    pids: tuple[int, ...] = ()
    follow_forks: bool = False
    comms: tuple[str, ...] = ()
    cgroup: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A tracing session's settings.

    `operations` are the operations to trace, all if empty. `mechanism` is one of
    `FUNCTION_MECHANISMS`; "auto" is the best one that works on this kernel, and no function layer
    if none works. `label` is one of `LABELS` or None. `label_values` is the maximum number of
    values of the label. If room for more is scarce, the cells of those that have been silent for
    `label_silence_seconds` are given back. `threads` is the maximum number of threads in the map of
    threads; 0 means four times the number of threads on the machine, at least 4,096. `measure_cost`
    enables the kernel's statistics of BPF run time, which make each run slower. `tracer_pid` is
    never traced. `in_flight` is how the kernel side finds the call of a thread: "stack", or "hash",
    which is simpler and slower and serves as its check in tests (bpf/in_flight.h).
    """

    filter: Filter = field(default_factory=Filter)
    operations: tuple[str, ...] = ()
    mechanism: str = "auto"
    label: str | None = None
    label_values: int = 512
    label_silence_seconds: float = 600.0
    threads: int = 0
    measure_cost: bool = False
    tracer_pid: int = 0
    in_flight: str = "stack"
