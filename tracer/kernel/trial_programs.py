# SPDX-License-Identifier: MIT
"""Small programs, written in BPF instructions, that show whether something works on this kernel.

The doctor and the proofs of `tracer.kernel.mechanisms` load them: no compiler is needed. The
instructions are those of the kernel's Documentation/bpf/standardization/instruction-set.rst, the
perf events those of include/uapi/linux/perf_event.h.
"""

import contextlib
import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator

from tracer.kernel.architecture import architecture
from tracer.kernel.libbpf import checked, libbpf
from tracer.kernel.programs import (
    AttachType,
    ProgramType,
    attach_to_raw_tracepoint,
    attach_tracing,
    load_program,
)

__all__ = [
    "DOING_NOTHING",
    "PSEUDO_KFUNC_CALL",
    "READING_KERNEL_MEMORY",
    "attach",
    "attach_to_event",
    "casting",
    "closing",
    "count_of",
    "counting",
    "load",
    "make_counter",
    "open_event",
]

_MAP_TYPE_ARRAY = 2
_PERF_EVENT_IOC_SET_BPF, _PERF_EVENT_IOC_ENABLE = 0x40042408, 0x2400
_PERF_FLAG_FD_CLOEXEC = 8

# Classes, sizes, modes, sources and operations, which make an opcode when put together.
_LD, _LDX, _ST, _STX, _JMP, _ALU64 = 0x00, 0x01, 0x02, 0x03, 0x05, 0x07
_W, _DW = 0x00, 0x18
_IMM, _MEM, _ATOMIC = 0x00, 0x60, 0xC0
_K, _X = 0x00, 0x08
_ADD, _MOV, _JEQ, _CALL, _EXIT = 0x00, 0xB0, 0x10, 0x80, 0x90

_R0, _R1, _R2, _R3, _R10 = 0, 1, 2, 3, 10
"""Result; arguments; the frame's end, below which the stack is."""

_PSEUDO_MAP_FD = 1  # as source of a load: the number is a map's descriptor
_HELPER_MAP_LOOKUP_ELEM, _HELPER_PROBE_READ_KERNEL = 1, 113

PSEUDO_KFUNC_CALL = 2
"""As source of a call: the number is the BTF id of a function of the kernel's."""


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, number: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, number)


def _set(target: int, number: int) -> bytes:
    return _instruction(_ALU64 | _MOV | _K, target, number=number)


def _copy(target: int, source: int) -> bytes:
    return _instruction(_ALU64 | _MOV | _X, target, source)


def _add(target: int, number: int) -> bytes:
    return _instruction(_ALU64 | _ADD | _K, target, number=number)


def _load_map(target: int, descriptor: int) -> bytes:
    return _instruction(_LD | _IMM | _DW, target, _PSEUDO_MAP_FD, number=descriptor) + bytes(8)


def _call(number: int, source: int = 0) -> bytes:
    return _instruction(_JMP | _CALL, source=source, number=number)


_RETURN_ZERO = _set(_R0, 0) + _instruction(_JMP | _EXIT)

DOING_NOTHING = _RETURN_ZERO
"""The least program."""

READING_KERNEL_MEMORY = b"".join(
    [
        _copy(_R1, _R10),
        _add(_R1, -8),
        _set(_R2, 8),
        _set(_R3, 0),
        _call(_HELPER_PROBE_READ_KERNEL),  # 8 bytes from address 0 to the stack
        _RETURN_ZERO,
    ]
)
"""A program that a kernel in lockdown for confidentiality refuses."""


def counting(counter: int) -> bytes:
    """A program that adds one to the only value of the map with this descriptor."""
    return b"".join(
        [
            _instruction(_ST | _MEM | _W, _R10, offset=-4),  # the key, on the stack: 0
            _copy(_R2, _R10),
            _add(_R2, -4),
            _load_map(_R1, counter),
            _call(_HELPER_MAP_LOOKUP_ELEM),
            _instruction(_JMP | _JEQ | _K, _R0, offset=2),  # no such value: skip two
            _set(_R1, 1),
            _instruction(_STX | _ATOMIC | _DW, _R0, _R1, number=_ADD),
            _RETURN_ZERO,
        ]
    )


def casting(function: int, words: int) -> bytes:
    """A program that casts a number by bpf_rdonly_cast(), and loads from there.

    `function` and `words` are the BTF ids of that function and of the type to cast to.
    """
    return b"".join(
        [
            _set(_R1, 0),
            _set(_R2, words),
            _call(function, PSEUDO_KFUNC_CALL),
            _instruction(_LDX | _MEM | _DW, _R0, _R0),
            _RETURN_ZERO,
        ]
    )


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Yield the descriptor, and close it."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def make_counter() -> Iterator[int]:
    """Yield the descriptor of an array map of one 64-bit number; raises OSError."""
    with closing(
        checked(libbpf().bpf_map_create(_MAP_TYPE_ARRAY, b"lunatik_trial", 4, 8, 1, None))
    ) as counter:
        yield counter


def count_of(counter: int) -> int:
    """Return the number in it; raises OSError."""
    key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
    checked(libbpf().bpf_map_lookup_elem(counter, ctypes.byref(key), ctypes.byref(value)))
    return value.value


@contextlib.contextmanager
def load(
    kind: ProgramType,
    instructions: bytes,
    *,
    attach_type: AttachType = AttachType.DEFAULT,
    function: int = 0,
) -> Iterator[int]:
    """Yield the descriptor of a program that is gone afterwards; see `load_program`."""
    with closing(
        load_program(
            kind, instructions, name="lunatik_trial", attach_type=attach_type, function=function
        )
    ) as program:
        yield program


@contextlib.contextmanager
def attach(program: int, tracepoint: str | None = None) -> Iterator[int]:
    """Have a program run at a raw tracepoint, or a TRACING one where it was loaded for.

    Raises OSError.
    """
    with closing(
        attach_to_raw_tracepoint(program, tracepoint) if tracepoint else attach_tracing(program)
    ) as link:
        yield link


@contextlib.contextmanager
def open_event(kind: int, config: int = 0, name: str | None = None) -> Iterator[int]:
    """Yield the descriptor of a perf event: a tracepoint by its id, or a kprobe by `name`.

    Raises OSError. libbpf opens perf events only for programs out of its own object files.
    """
    function = ctypes.create_string_buffer(name.encode()) if name else None
    attributes = _EventAttributes(
        type=kind,
        size=ctypes.sizeof(_EventAttributes),
        config=config,
        sample_period=1,
        config1=ctypes.addressof(function) if function else 0,
    )
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_long(architecture().perf_event_open)
    every_process, first_cpu, no_group = map(ctypes.c_int, (-1, 0, -1))
    flags = ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC)
    with closing(
        checked(
            libc.syscall(
                number, ctypes.byref(attributes), every_process, first_cpu, no_group, flags
            )
        )
    ) as event:
        yield event


class _EventAttributes(ctypes.Structure):
    """The kernel's struct perf_event_attr of 72 bytes, which every kernel takes."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),  # of a kprobe: the address of the function's name
        ("config2", ctypes.c_uint64),
    )


def attach_to_event(event: int, program: int) -> None:
    """Have the program run at each occurrence of the event; raises OSError."""
    fcntl.ioctl(event, _PERF_EVENT_IOC_SET_BPF, program)
    fcntl.ioctl(event, _PERF_EVENT_IOC_ENABLE, 0)
