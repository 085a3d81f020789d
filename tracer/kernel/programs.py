# SPDX-License-Identifier: MIT
"""Load BPF programs into the kernel and attach them, through libbpf.

Each function returns a descriptor, which is the caller's to close, or raises OSError.
"""

import ctypes
import os
from collections.abc import Sequence
from enum import IntEnum

from tracer.kernel.libbpf import LinkOptions, LoadOptions, checked, last_error, libbpf

__all__ = [
    "AttachType",
    "ProgramType",
    "attach_to_functions",
    "attach_to_raw_tracepoint",
    "attach_tracing",
    "load_program",
]

_LOG_BYTES = 1 << 20
_ATTEMPTS = 5
_RETURN = 1  # BPF_F_KPROBE_MULTI_RETURN


class ProgramType(IntEnum):
    """The kernel's enum bpf_prog_type."""

    KPROBE = 2
    TRACEPOINT = 5
    RAW_TRACEPOINT = 17
    TRACING = 26


class AttachType(IntEnum):
    """The kernel's enum bpf_attach_type; `DEFAULT` for program types that have only one."""

    DEFAULT = 0
    FENTRY = 24
    FEXIT = 25
    KPROBE_MULTI = 42


def load_program(
    kind: ProgramType,
    instructions: bytes,
    *,
    name: str,
    attach_type: AttachType = AttachType.DEFAULT,
    function: int = 0,
) -> int:
    """Load a program; `function` is the BTF id of the function that a TRACING program is for.

    Raises OSError if the kernel refuses it, with the last lines of the verifier's log in the
    message and the whole log as a note. The verifier gives up with EAGAIN when a signal is pending;
    libbpf then tries again.
    """

    def load(log: "ctypes.Array[ctypes.c_char] | None") -> int:
        options = LoadOptions(
            attempts=_ATTEMPTS,
            expected_attach_type=attach_type,
            attach_btf_id=function,
            log_level=int(log is not None),
            log_size=0 if log is None else len(log),
            log_buf=None if log is None else ctypes.addressof(log),
        )
        return int(
            libbpf().bpf_prog_load(
                kind,
                name.encode()[:15],  # the kernel's BPF_OBJ_NAME_LEN, without the zero
                b"GPL",
                instructions,
                len(instructions) // 8,
                ctypes.byref(options),
            )
        )

    descriptor = load(None)
    if descriptor >= 0:
        return descriptor
    # Load again, only for the verifier's log. With a log, one that is too long would be the error.
    error, log = last_error(), ctypes.create_string_buffer(_LOG_BYTES)
    if (descriptor := load(log)) >= 0:
        os.close(descriptor)
    words = log.value.decode(errors="replace").strip()
    message = "; ".join([str(error.strerror), *words.splitlines()[-3:]])
    refusal = OSError(error.errno, message)  # the subclass for the errno, such as PermissionError
    if words:
        refusal.add_note(words)
    raise refusal


def attach_to_raw_tracepoint(program: int, tracepoint: str) -> int:
    """Run a RAW_TRACEPOINT program at this tracepoint."""
    return checked(libbpf().bpf_raw_tracepoint_open(tracepoint.encode(), program))


def attach_tracing(program: int) -> int:
    """Run a TRACING program at the function that it was loaded for."""
    return checked(libbpf().bpf_raw_tracepoint_open(None, program))


def attach_to_functions(program: int, functions: Sequence[str], *, at_return: bool = False) -> int:
    """Run a KPROBE_MULTI program at all these functions: at their entry, or at their return."""
    names = (ctypes.c_char_p * len(functions))(*(name.encode() for name in functions))
    options = LinkOptions(
        kprobe_multi_flags=_RETURN if at_return else 0,
        kprobe_multi_cnt=len(names),
        kprobe_multi_syms=names,
    )
    return checked(
        libbpf().bpf_link_create(program, 0, AttachType.KPROBE_MULTI, ctypes.byref(options))
    )
