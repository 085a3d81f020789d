# SPDX-License-Identifier: MIT
"""The operation layer: which system calls it traces, and how its two programs get to see them.

The programs are those of bpf/operations.bpf.c.
"""

from dataclasses import dataclass

from tracer.kernel.architecture import architecture
from tracer.kernel.btf import KernelTypes
from tracer.loading.attachments import Attachment
from tracer.model.config import Config
from tracer.model.operations import OPERATIONS, Bytes, Subject, SystemCall, system_calls

__all__ = ["OperationLayer", "functions_of_calls", "operation_layer", "targets_of_call"]

_ENTERED, _RETURNED = "enter_system_call", "exit_system_call"

_SUBJECTS = {name: i for i, name in enumerate(["NONE", *Subject.__members__, "UNCOUNTED"])}
_BYTES = {name: i for i, name in enumerate([*Bytes.__members__, "UNCOUNTED"])}
"""The enumerations of tracer/model/operations.py as numbers, for the kernel side."""

_NEW = [operation.name for operation in OPERATIONS].index("new")
_MARKED = ("socket", "socketpair")


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
        (OPERATIONS.index(operation), call)
        for operation, call in system_calls()
        if _is_here(call) and (not config.operations or operation.name in config.operations)
    ]
    table = _table(calls, with_marks=with_functions)
    return OperationLayer(
        mechanism,
        tuple(call.name for _, call in calls),
        table,
        _attachments(mechanism, table),
        (
            ("PROBES", len(calls)),
            *([("BY_FUNCTION", 1)] * (mechanism == "kprobe_multi")),
            *_macros(types).items(),
        ),
    )


def functions_of_calls() -> list[str]:
    """The kernel's functions of all system calls that the layer may be attached to."""
    names = {*_MARKED, *(call.name for _, call in system_calls() if _is_here(call))}
    return [architecture().prefix + name for name in names]


def targets_of_call(mechanism: str, call: str) -> tuple[str, ...]:
    """What a system call's probe is attached to."""
    if mechanism == "tracepoint":
        return ("sys_exit", "sys_enter")
    return (architecture().prefix + call,)


def _is_here(call: SystemCall) -> bool:
    return call.name in architecture().numbers


def _table(calls: list[tuple[int, SystemCall]], *, with_marks: bool) -> dict[int, dict[str, int]]:
    numbers = architecture().numbers
    found = {}
    if with_marks:
        # Not counted, but to be told from calls of the kernel's own (bpf/functions.bpf.c).
        mark = _row(_SUBJECTS["UNCOUNTED"], _BYTES["UNCOUNTED"], _NEW, len(calls))
        found = {numbers[name]: mark for name in _MARKED}
    for probe, (operation, call) in enumerate(calls):
        subject, moved = _SUBJECTS[call.subject.name], _BYTES[call.bytes.name]
        found[numbers[call.name]] = _row(subject, moved, operation, probe)
    return found


def _row(subject: int, moved: int, operation: int, probe: int) -> dict[str, int]:
    """The fields of struct system_call."""
    return {"subject": subject, "bytes": moved, "operation": operation, "probe": probe}


def _attachments(mechanism: str, table: dict[int, dict[str, int]]) -> tuple[Attachment, ...]:
    """The return first: what is seen entering is then always seen returning."""
    if mechanism == "tracepoint":
        return (
            Attachment("raw_tracepoint", _RETURNED, "sys_exit"),
            Attachment("raw_tracepoint", _ENTERED, "sys_enter"),
        )
    own = architecture()
    functions = ",".join(
        own.prefix + name for name, number in own.numbers.items() if number in table
    )
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
    return (
        arguments
        | {f"SUBJECT_{name}": number for name, number in _SUBJECTS.items()}
        | {f"BYTES_{name}": number for name, number in _BYTES.items()}
        | {
            "SYSTEM_CALL_NUMBERS": max(own.numbers.values()) + 1,
            "SYSTEM_CALL_NUMBER": types.offset_of("pt_regs", own.number),
            "THREAD_INFO_COMPAT": types.offset_of("thread_info", field),
            "COMPAT_BIT": bit,
        }
    )
