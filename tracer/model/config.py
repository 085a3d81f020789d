# SPDX-License-Identifier: MIT
"""What is to be traced: the one description that command line, loader and session share."""

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["FUNCTION_MECHANISMS", "LABELS", "Config", "Filter"]

FUNCTION_MECHANISMS = ("auto", "tracepoint", "kprobe", "fentry")
"""How the function layer is attached; "tracepoint" is the operation layer alone."""

LABELS = ("comm", "pid", "cgroup", "port")
"""What the series can be split by, besides operation, path and transport."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls count. Values of one kind are alternatives; different kinds must all hold.

    Empty means every process of the machine but the tracer itself. `pids` are thread group ids as
    seen from the initial PID namespace; with `follow_forks` the children they make from now on
    count too. `comms` are names of threads (at most 15 bytes each). `cgroup` is a directory of the
    cgroup2 file system; all below it counts.
    """

    pids: tuple[int, ...] = ()
    follow_forks: bool = False
    comms: tuple[str, ...] = ()
    cgroup: str | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A tracing session's settings.

    `operations` names those to trace, all if empty. `mechanism` is one of `FUNCTION_MECHANISMS`;
    "auto" takes the best that works here and goes without the function layer if none does. `label`
    is one of `LABELS` or None; `label_cells` bounds how many cells carry a label of their own,
    `threads` how many threads are followed at once: 0 for four times as many as there are, and
    4,096 at least. `measure_cost` switches the kernel's own accounting of BPF run time on (it adds
    to each run). `tracer_pid` is never traced. `in_flight` is how the kernel side
    finds a thread's call: "stack", or "hash", simpler and slower, for tests (bpf/in_flight.h).
    """

    filter: Filter = field(default_factory=Filter)
    operations: tuple[str, ...] = ()
    mechanism: str = "auto"
    label: str | None = None
    label_cells: int = 512
    threads: int = 0
    measure_cost: bool = False
    tracer_pid: int = 0
    in_flight: str = "stack"

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the loader's process."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Config":
        """The opposite of `to_json`."""
        chosen = data["filter"]
        return cls(
            **data
            | {
                "operations": tuple(data["operations"]),
                "filter": Filter(
                    **chosen | {"pids": tuple(chosen["pids"]), "comms": tuple(chosen["comms"])}
                ),
            }
        )
