# SPDX-License-Identifier: MIT
"""bpf(2) and perf_event_open(2) called by hand: to load programs, and to try out what works.

Without libbpf and bcc: a doctor must not need the medicine. The layouts are those of the kernel's
include/uapi/linux/bpf.h and perf_event.h.
"""

import contextlib
import ctypes
import fcntl
import functools
import os
import struct
from collections.abc import Iterator, Sequence

from tracer.kernel.architecture import architecture

__all__ = [
    "PSEUDO_KERNEL_CALL",
    "READING_KERNEL_MEMORY",
    "Kind",
    "attach",
    "attach_to_event",
    "attach_to_functions",
    "casting",
    "closing",
    "count_of",
    "counting",
    "load",
    "load_program",
    "make_counter",
    "open_event",
]

_MAP_CREATE, _MAP_LOOKUP_ELEM, _PROG_LOAD, _RAW_TRACEPOINT_OPEN, _LINK_CREATE = 0, 1, 5, 17, 28
_MAP_TYPE_ARRAY = 2
_SET_BPF, _ENABLE = 0x40042408, 0x2400
_CLOSE_ON_EXEC = 8
_PSEUDO_MAP_FD = 1
_LOG_BYTES = 1 << 20
_ATTEMPTS = 5

PSEUDO_KERNEL_CALL = 2
"""In a call instruction's source: it is a function of the kernel's, not a helper."""


class Kind:
    """Program types, and the attach type of the one that has several."""

    KPROBE, TRACEPOINT, RAW_TRACEPOINT, TRACING = 2, 5, 17, 26
    FENTRY, FEXIT, KPROBE_MULTI = 24, 25, 42


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def counting(counter: int) -> bytes:
    """Instructions that add one to the only value of the map with this descriptor."""
    return b"".join(
        [
            _instruction(0x62, 10, offset=-4),  # *(u32 *)(r10 - 4) = 0
            _instruction(0xBF, 2, 10),  # r2 = r10
            _instruction(0x07, 2, value=-4),  # r2 += -4
            _instruction(0x18, 1, _PSEUDO_MAP_FD, value=counter),  # r1 = the map
            _instruction(0x00),
            _instruction(0x85, value=1),  # r0 = bpf_map_lookup_elem(r1, r2)
            _instruction(0x15, 0, offset=2),  # if r0 == 0 skip two
            _instruction(0xB7, 1, value=1),  # r1 = 1
            _instruction(0xDB, 0, 1),  # lock *(u64 *)r0 += r1
            _instruction(0xB7, 0),  # r0 = 0
            _instruction(0x95),  # exit
        ]
    )


def casting(function: int, words: int) -> bytes:
    """Instructions that cast a number by the kernel's bpf_rdonly_cast(), and load from there."""
    return b"".join(
        [
            _instruction(0xB7, 1),  # r1 = 0
            _instruction(0xB7, 2, value=words),  # r2 = the type
            _instruction(0x85, source=PSEUDO_KERNEL_CALL, value=function),
            _instruction(0x79, 0, 0),  # r0 = *(u64 *)r0
            _instruction(0xB7, 0),  # r0 = 0
            _instruction(0x95),  # exit
        ]
    )


READING_KERNEL_MEMORY = b"".join(
    [
        _instruction(0xBF, 1, 10),  # r1 = r10
        _instruction(0x07, 1, value=-8),  # r1 += -8
        _instruction(0xB7, 2, value=8),  # r2 = 8
        _instruction(0xB7, 3),  # r3 = 0
        _instruction(0x85, value=113),  # bpf_probe_read_kernel(r1, r2, r3)
        _instruction(0xB7, 0),  # r0 = 0
        _instruction(0x95),  # exit
    ]
)
"""Instructions that a kernel in lockdown for confidentiality does not let in."""


def _call(name: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(architecture().numbers[name]), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _call("bpf", ctypes.c_int(command), buffer, ctypes.c_uint(len(attributes)))


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
    with closing(_bpf(_MAP_CREATE, struct.pack("=IIII", _MAP_TYPE_ARRAY, 4, 8, 1))) as counter:
        yield counter


def count_of(counter: int) -> int:
    """Return the number in it."""
    key, value = ctypes.c_uint32(0), ctypes.c_uint64(0)
    attributes = (counter, ctypes.addressof(key), ctypes.addressof(value), 0)
    _bpf(_MAP_LOOKUP_ELEM, struct.pack("=I4xQQQ", *attributes))
    return value.value


@contextlib.contextmanager
def load(
    kind: int, instructions: bytes, *, attach_type: int = 0, function: int = 0
) -> Iterator[int]:
    """Yield the descriptor of a program that is gone afterwards; see `load_program`."""
    with closing(
        load_program(kind, instructions, attach_type=attach_type, function=function)
    ) as program:
        yield program


def load_program(
    kind: int,
    instructions: bytes,
    *,
    name: str = "lunatik_trial",
    attach_type: int = 0,
    function: int = 0,
) -> int:
    """Return the descriptor of a program; `function` is the BTF id of what it is to attach to.

    Raises OSError if the kernel refuses it, with the verifier's last words, if it had any.
    """
    load_once = functools.partial(
        _load, kind, instructions, name=name, attach_type=attach_type, function=function
    )
    for _ in range(_ATTEMPTS):
        # The verifier gives up when a signal is pending.
        with contextlib.suppress(BlockingIOError):
            return load_once(None)
    try:
        return load_once(None)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_BYTES)
        with contextlib.suppress(OSError):
            os.close(load_once(log))
        words = log.value.decode(errors="replace").strip().splitlines()
        message = "; ".join([os.strerror(error.errno or 0), *words[-3:]])
        raise OSError(error.errno, message) from error


def _load(
    kind: int,
    instructions: bytes,
    log: "ctypes.Array[ctypes.c_char] | None",
    *,
    name: str,
    attach_type: int,
    function: int,
) -> int:
    text = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    level, size, address = (1, len(log), ctypes.addressof(log)) if log is not None else (0, 0, 0)
    attributes = struct.pack(
        "=IIQQIIQII16sIIIIQIIQIII4x",
        *(kind, len(instructions) // 8, ctypes.addressof(text), ctypes.addressof(licence)),
        *(level, size, address, 0, 0, name.encode()[:15], 0),
        *(attach_type, 0, 0, 0, 0, 0, 0, 0, function, 0),
    )
    return _bpf(_PROG_LOAD, attributes)


@contextlib.contextmanager
def open_event(kind: int, config: int = 0, name: str | None = None) -> Iterator[int]:
    """Yield the descriptor of a perf event: a tracepoint by its id, or a kprobe by `name`."""
    function = ctypes.create_string_buffer(name.encode()) if name else None
    address = ctypes.addressof(function) if function else 0
    attributes = struct.pack("=IIQQQQQIIQQ", kind, 72, config, 1, 0, 0, 0, 0, 0, address, 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    arguments = (
        ctypes.c_int(-1),
        ctypes.c_int(0),
        ctypes.c_int(-1),
        ctypes.c_ulong(_CLOSE_ON_EXEC),
    )
    with closing(_call("perf_event_open", buffer, *arguments)) as event:
        yield event


def attach_to_event(event: int, program: int) -> None:
    """Have the program run at each occurrence of the event; raises OSError."""
    fcntl.ioctl(event, _SET_BPF, program)
    fcntl.ioctl(event, _ENABLE, 0)


@contextlib.contextmanager
def attach(program: int, tracepoint: str | None = None) -> Iterator[int]:
    """Have a program run at a raw tracepoint, or a tracing one where it was loaded for.

    Raises OSError.
    """
    name = ctypes.create_string_buffer(tracepoint.encode()) if tracepoint else None
    address = ctypes.addressof(name) if name else 0
    with closing(_bpf(_RAW_TRACEPOINT_OPEN, struct.pack("=QI4x", address, program))) as link:
        yield link


def attach_to_functions(program: int, functions: Sequence[str], *, at_return: bool = False) -> int:
    """Return the descriptor of a link that runs a KPROBE_MULTI program at all these functions.

    Raises OSError.
    """
    names = [ctypes.create_string_buffer(name.encode()) for name in functions]
    addresses = (ctypes.c_uint64 * len(names))(*map(ctypes.addressof, names))
    attributes = struct.pack(
        "=IIIIIIQQQ",
        *(program, 0, Kind.KPROBE_MULTI, 0),
        *(int(at_return), len(names), ctypes.addressof(addresses), 0, 0),
    )
    return _bpf(_LINK_CREATE, attributes)
