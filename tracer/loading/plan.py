# SPDX-License-Identifier: MIT
"""How the two layers attach to this kernel: decided here, once, in the parent.

Everything that is decided by trying it on the kernel is decided here; `tracer.loading.source` makes
the order from the plan, and the loader's child carries that out without a choice of its own.
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
    `copies`: the programs that follow processes are attached twice.
    """

    operations: str
    functions: str | None
    casts: Casts | None
    copies: bool


def make_plan(mechanism: str, types: KernelTypes) -> Plan:
    """The plan for one of `tracer.model.config.FUNCTION_MECHANISMS`.

    Raises TracerError if the mechanism is asked for by name and does not work here.
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

    Until that program runs again, every call on its CPU goes by unseen.
    """
    return types.function_id("trace_call_bpf_faultable") is not None and kernel_preempts()


def _functions_by(mechanism: str) -> str | None:
    """The function layer's mechanism: what was asked for, or the best that works here.

    fentry is cheaper; where the kernel preempts, a kprobe sees calls that fentry does not.
    """
    if mechanism != "auto":
        prove(mechanism)
        return None if mechanism == "tracepoint" else mechanism
    candidates = ("kprobe", "fentry") if kernel_preempts() else ("fentry", "kprobe")
    return next(filter(works, candidates), None)
