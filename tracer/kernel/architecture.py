# SPDX-License-Identifier: MIT
"""What differs between processor architectures: registers, function names, 32-bit programs.

The numbers of the traced system calls are in tracer/model/operations.py.
"""

import platform
from dataclasses import dataclass

from tracer.errors import UnsupportedError
from tracer.model.operations import MARKED, system_calls

__all__ = ["Architecture", "architecture"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture, as its kernel's types have it.

    `machine` is its name as uname(2) gives it. `perf_event_open` is the number of the one system
    call that the tracer itself makes by number. `prefix` and the name of a system call make the
    name of the kernel's function for it. `arguments` tells where a call's first arguments are:
    fields of struct pt_regs, and bytes to add to their offsets; `number` the field with the system
    call's number.
    `compat` is the field of struct thread_info and the bit in it that tells a call by a 32-bit
    program, where other numbers apply.
    """

    machine: str
    perf_event_open: int
    prefix: str
    arguments: tuple[tuple[str, int], ...]
    number: str
    compat: tuple[str, int]

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers of the 64-bit system calls that are used here, by the kernel's names."""
        calls = [*MARKED, *(call for _, call in system_calls())]
        found = {call.name: call.number_on(self.machine) for call in calls}
        return {name: n for name, n in found.items() if n is not None}


_X86_64 = Architecture(
    machine="x86_64",
    perf_event_open=298,
    prefix="__x64_sys_",
    arguments=(("di", 0), ("si", 0), ("dx", 0), ("r10", 0), ("r8", 0)),
    number="orig_ax",
    compat=("status", 1 << 1),  # TS_COMPAT
)
_AARCH64 = Architecture(
    machine="aarch64",
    perf_event_open=241,
    prefix="__arm64_sys_",
    arguments=tuple(("regs", 8 * i) for i in range(5)),
    number="syscallno",
    compat=("flags", 1 << 22),  # TIF_32BIT
)
_ARCHITECTURES = {own.machine: own for own in (_X86_64, _AARCH64)}


def architecture() -> Architecture:
    """The running kernel's; raises UnsupportedError if it is not one of ours."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise UnsupportedError(
            "trace on",
            machine,
            "its system call numbers are unknown",
            hint=f"needs {' or '.join(_ARCHITECTURES)}",
        )
    return _ARCHITECTURES[machine]
