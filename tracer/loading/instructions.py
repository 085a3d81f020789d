# SPDX-License-Identifier: MIT
"""Changes to the instructions of the compiled programs before they are loaded.

**Casts**: bpf_rdonly_cast() (6.2 on) turns a number into a pointer with a type of the kernel's.
Reading what it points at is then a plain load, instead of a call of bpf_probe_read_kernel(). It is
a kernel function (kfunc), called by its BTF id, which bcc does not support. So the C text calls a
helper with a number that no kernel has, and these calls are replaced here.

**Constants**: the programs at functions of the kernel are compiled once, for all functions. What
differs from function to function is a few numbers, which are put in here. Compiling for each
function would take four times as long. The verifier knows the numbers, and removes the code that
they make unreachable.
"""

import ctypes
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracer.kernel.btf import KernelTypes
from tracer.kernel.trial_programs import PSEUDO_KFUNC_CALL

__all__ = [
    "Casts",
    "cast_macros",
    "casts_of",
    "constant_macros",
    "put_casts",
    "put_constants",
    "text_of",
]

_HELPER = 0x7EAD0001
_FUNCTION, _WORDS = "bpf_rdonly_cast", "timespec64"
"""The type that everything is cast to: two numbers of 8 bytes."""

_CONSTANTS = ("NUMBER", "ARGUMENT", "SLOTS", "RETURNS", "PATH", "TRANSPORT", "SKIPS_NEW", "INSIDE")
_FIRST_CONSTANT = 0x7EAD1000


@dataclass(frozen=True, slots=True)
class Casts:
    """The BTF ids of the kernel's function that casts, and of the type it casts to."""

    function: int
    words: int


def casts_of(types: KernelTypes) -> Casts | None:
    """The ids on this kernel; None if it has no such function."""
    function, words = types.function_id(_FUNCTION), types.struct_id(_WORDS)
    return None if function is None or words is None else Casts(function, words)


def cast_macros(casts: Casts | None) -> dict[str, int]:
    """Macros for bpf/current.h; none if the kernel refuses a program with a cast."""
    if casts is None:
        return {}
    return {"HAVE_CAST": casts.function, "KERNEL_CAST": _HELPER, "TYPE_OF_WORDS": casts.words}


def put_casts(bcc: Any, module: Any, function: int) -> None:
    """Replace the placeholder calls, in all programs of bcc's module, by the kernel's function."""
    wanted = struct.pack("=BBhi", 0x85, 0, 0, _HELPER)
    replacement = struct.pack("=BBhi", 0x85, PSEUDO_KFUNC_CALL << 4, 0, function)
    for i in range(bcc.lib.bpf_num_functions(module)):
        name = bcc.lib.bpf_function_name(module, i)
        text = _replace(text_of(bcc, module, name.decode()), {wanted: replacement})
        ctypes.memmove(bcc.lib.bpf_function_start(module, name), text, len(text))


def constant_macros() -> dict[str, object]:
    """Macros for bpf/functions.bpf.c: the placeholders that `put_constants` replaces."""
    return {f"CONSTANT_{name}": _FIRST_CONSTANT + i for i, name in enumerate(_CONSTANTS)}


def put_constants(text: bytes, constants: Mapping[str, int]) -> bytes:
    """The instructions with these constants instead of their placeholders."""
    move = 0xB7  # a register = a number
    return _replace(
        text,
        {
            struct.pack("=BBhi", move, register, 0, _FIRST_CONSTANT + i): struct.pack(
                "=BBhi", move, register, 0, constants[constant]
            )
            for i, constant in enumerate(_CONSTANTS)
            for register in range(10)
        },
    )


def text_of(bcc: Any, module: Any, name: str) -> bytes:
    """The instructions of the program of this name, as compiled."""
    size = bcc.lib.bpf_function_size(module, name.encode())
    return ctypes.string_at(bcc.lib.bpf_function_start(module, name.encode()), size)


def _replace(text: bytes, replacements: Mapping[bytes, bytes]) -> bytes:
    parts = [text[at : at + 8] for at in range(0, len(text), 8)]
    return b"".join(replacements.get(part, part) for part in parts)
