# SPDX-License-Identifier: MIT
"""The operation layer: which system calls it traces, and where its two programs attach.

The programs are those of bpf/operations.bpf.c.
"""

from dataclasses import dataclass

from tracer.kernel.architecture import architecture
from tracer.kernel.btf import KernelTypes
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

__all__ = ["OperationLayer", "functions_of_calls", "operation_layer", "targets_of_call"]

_ENTERED, _RETURNED = "enter_system_call", "exit_system_call"


@dataclass(frozen=True, slots=True)
class OperationLayer:
    """What is traced, and what the C text and the loader need for it.

    `calls` are the names of the system calls by their probes' numbers, `table` is the content of
    the map `system_calls`: the fields of struct system_call by the call's number.
    """

    mechanism: str
    calls: tuple[str, ...]
    table: dict[int, dict[str, int]]
    attachments: tuple[Attachment, ...]
    macros: tuple[tuple[str, object], ...]


def operation_layer(
    config: Config, mechanism: str, types: KernelTypes, *, with_functions: bool
) -> OperationLayer:
    """The layer for these settings; beside a function layer, some calls are marked for it.

    `mechanism` is "tracepoint" or "kprobe_multi".
    """
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


def functions_of_calls() -> list[str]:
    """The kernel's functions of all system calls that the layer may be attached to."""
    calls = [*MARKED, *(call for _, call in system_calls())]
    names = {call.name for call in calls if _number(call) is not None}
    return [architecture().prefix + name for name in names]


def targets_of_call(mechanism: str, call: str) -> tuple[str, ...]:
    """What a system call's probe is attached to."""
    if mechanism == "tracepoint":
        return ("sys_exit", "sys_enter")
    return (architecture().prefix + call,)


def _number(call: SystemCall) -> int | None:
    return call.number_on(architecture().machine)


def _table(calls: list[tuple[int, SystemCall]], *, with_marks: bool) -> dict[int, dict[str, int]]:
    """The map `system_calls`, by number; a call that counts is not marked."""
    mark = _row(Subject.UNCOUNTED, Bytes.UNCOUNTED, operation_number("new"), len(calls))
    found = {_number(call): mark for call in MARKED if with_marks}
    for probe, (operation, call) in enumerate(calls):
        found[_number(call)] = _row(call.subject, call.bytes, operation, probe)
    return {number: row for number, row in found.items() if number is not None}


def _row(subject: int, moved: int, operation: int, probe: int) -> dict[str, int]:
    """The fields of struct system_call (bpf/operations.bpf.c)."""
    return {"subject": subject, "bytes": moved, "operation": operation, "probe": probe}


def _attachments(
    mechanism: str, calls: list[SystemCall], table: dict[int, dict[str, int]]
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
