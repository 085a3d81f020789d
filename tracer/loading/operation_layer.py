# SPDX-License-Identifier: MIT
"""The operation layer: which system calls it traces, and where its two programs attach.

The programs are those of bpf/operations.bpf.c.
"""

from dataclasses import dataclass

from tracer.errors import TracerError
from tracer.kernel.architecture import architecture
from tracer.kernel.btf import KernelTypes
from tracer.kernel.capabilities import kernel_preempts
from tracer.kernel.mechanisms import prove_at_calls
from tracer.loading.attachments import Attachment
from tracer.model.config import Config
from tracer.model.operations import (
    MARKED,
    Bytes,
    Subject,
    SystemCall,
    operation_number,
    system_calls,
)

__all__ = ["OperationLayer", "operation_layer", "operations_by", "preempts_tracepoints"]

_ENTERED, _RETURNED = "enter_system_call", "exit_system_call"


@dataclass(frozen=True, slots=True)
class OperationLayer:
    """What is traced, and what the C text and the loader need for it.

    `calls` are the names of the system calls by their probes' numbers, `table` is the content of
    the map `system_calls`: struct system_call by number.
    """

    mechanism: str
    calls: tuple[str, ...]
    table: dict[int, bytes]
    attachments: tuple[Attachment, ...]
    macros: tuple[tuple[str, object], ...]


def operation_layer(config: Config, types: KernelTypes, *, with_functions: bool) -> OperationLayer:
    """The layer for these settings; beside a function layer, some calls are marked for it."""
    mechanism = operations_by(types)
    calls = [
        (operation_number(operation.name), call)
        for operation, call in system_calls()
        if _number(call) is not None
        and (not config.operations or operation.name in config.operations)
    ]
    table = _table(calls, with_marks=with_functions)
    return OperationLayer(
        mechanism,
        tuple(call.name for _, call in calls),
        table,
        _attachments(mechanism, [*MARKED, *(call for _, call in calls)], table),
        (
            ("PROBES", len(calls)),
            *([("BY_FUNCTION", 1)] * (mechanism == "kprobe_multi")),
            *_macros(types).items(),
        ),
    )


def operations_by(types: KernelTypes) -> str:
    """The layer's mechanism here, "tracepoint" or "kprobe_multi".

    Tracepoints are used where the kernel does not preempt their programs, and where kprobe_multi
    does not work. A kprobe's program is never preempted.
    """
    if not preempts_tracepoints(types):
        return "tracepoint"
    calls = [*MARKED, *(call for _, call in system_calls())]
    names = {call.name for call in calls if _number(call) is not None}
    try:
        prove_at_calls([architecture().prefix + name for name in names])
    except (OSError, TracerError):
        return "tracepoint"
    return "kprobe_multi"


def preempts_tracepoints(types: KernelTypes) -> bool:
    """Whether the kernel may preempt a program at a tracepoint (since 7.0 or so).

    Until that program runs again, the kernel skips it for everything else on its CPU, and so
    these calls are missed.
    """
    return types.function_id("trace_call_bpf_faultable") is not None and kernel_preempts()


def _number(call: SystemCall) -> int | None:
    return call.number_on(architecture().machine)


def _table(calls: list[tuple[int, SystemCall]], *, with_marks: bool) -> dict[int, bytes]:
    """struct system_call of bpf/operations.bpf.c by number; a call that counts is not marked."""
    no_probe = len(calls)
    mark = bytes([Subject.UNCOUNTED, Bytes.UNCOUNTED, operation_number("new"), no_probe])
    found = {_number(call): mark for call in MARKED if with_marks}
    for probe, (operation, call) in enumerate(calls):
        found[_number(call)] = bytes([call.subject, call.bytes, operation, probe])
    return {number: value for number, value in found.items() if number is not None}


def _attachments(
    mechanism: str, calls: list[SystemCall], table: dict[int, bytes]
) -> tuple[Attachment, ...]:
    """The program at the return first: a call that is seen entering is then seen returning."""
    if mechanism == "tracepoint":
        return (
            Attachment("raw_tracepoint", _RETURNED, "sys_exit"),
            Attachment("raw_tracepoint", _ENTERED, "sys_enter"),
        )
    names = dict.fromkeys(call.name for call in calls if _number(call) in table)
    functions = ",".join(architecture().prefix + name for name in names)
    return (
        Attachment("kretprobe_multi", _RETURNED, functions),
        Attachment("kprobe_multi", _ENTERED, functions),
    )


def _macros(types: KernelTypes) -> dict[str, object]:
    own = architecture()
    arguments: dict[str, object] = {
        f"ARGUMENT_{i}": types.offset_of("pt_regs", field) + extra
        for i, (field, extra) in enumerate(own.arguments, 1)
    }
    field, bit = own.compat
    return arguments | {
        "SYSTEM_CALL_NUMBERS": max(own.numbers.values()) + 1,
        "SYSTEM_CALL_NUMBER": types.offset_of("pt_regs", own.number),
        "THREAD_INFO_COMPAT": types.offset_of("thread_info", field),
        "COMPAT_BIT": bit,
    }
