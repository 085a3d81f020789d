# SPDX-License-Identifier: MIT
"""Chooses the mechanisms for this kernel: how the two layers attach and how memory is read.

Each choice is made once, in the parent, by trying the mechanism on the kernel.
`tracer.loading.source` makes the loader's order from the plan, and the child carries it out.
"""

from dataclasses import dataclass

from tracer.errors import TracerError
from tracer.kernel.btf import KernelTypes
from tracer.kernel.capabilities import kernel_preempts
from tracer.kernel.mechanisms import can_cast, prove, prove_at_calls, works
from tracer.loading.instructions import Casts, casts_of
from tracer.loading.operation_layer import functions_of_calls

__all__ = ["Plan", "make_plan", "operations_by", "preempts_tracepoints"]


@dataclass(frozen=True, slots=True)
class Plan:
    """`operations` is "tracepoint" or "kprobe_multi"; `functions` "kprobe", "fentry" or None.

    `casts` says how the programs read kernel memory without a helper, None if they need one.
    `copies` says whether the programs that follow processes are attached twice.
    """

    operations: str
    functions: str | None
    casts: Casts | None
    copies: bool


def make_plan(mechanism: str, types: KernelTypes) -> Plan:
    """Make the plan for one of `tracer.model.config.FUNCTION_MECHANISMS`.

    Raises TracerError if the mechanism was requested by name and does not work here.
    """
    casts = casts_of(types)
    return Plan(
        operations=operations_by(types),
        functions=_functions_by(mechanism),
        casts=casts if casts is not None and can_cast(casts.function, casts.words) else None,
        copies=preempts_tracepoints(types),
    )


def operations_by(types: KernelTypes) -> str:
    """The operation layer's mechanism here, "tracepoint" or "kprobe_multi".

    Tracepoints are used where the kernel does not preempt their programs, and where kprobe_multi
    does not work. A kprobe's program is never preempted.
    """
    if not preempts_tracepoints(types):
        return "tracepoint"
    try:
        prove_at_calls(functions_of_calls())
    except (OSError, TracerError):
        return "tracepoint"
    return "kprobe_multi"


def preempts_tracepoints(types: KernelTypes) -> bool:
    """Whether the kernel may preempt a program at a system call's tracepoint (since 7.0 or so).

    Until that program runs again, every call on its CPU is missed.
    """
    return types.function_id("trace_call_bpf_faultable") is not None and kernel_preempts()


def _functions_by(mechanism: str) -> str | None:
    """The function layer's mechanism: the requested one, or the best that works here.

    fentry costs less, but where the kernel preempts it misses calls that a kprobe sees.
    """
    if mechanism != "auto":
        prove(mechanism)
        return None if mechanism == "tracepoint" else mechanism
    candidates = ("kprobe", "fentry") if kernel_preempts() else ("fentry", "kprobe")
    return next(filter(works, candidates), None)
