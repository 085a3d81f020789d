# SPDX-License-Identifier: MIT
"""What is changed in the compiled programs' instructions before they are loaded.

**Casts**: bpf_rdonly_cast() (6.2 on) gives a number a type of the kernel's; what it points at is
then a plain load, where it would take a call of bpf_probe_read_kernel(). It is a function of the
kernel, named by its number in the kernel's types, for which bcc has no way. So the C text calls a
helper that no kernel has, and the calls are put right here.

**Constants**: the programs at the functions of the kernel are one text, compiled once; what differs
from function to function is a few numbers in it. Compiling it for each would take four times as
long. The verifier knows the numbers, and leaves out what they make unreachable.
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
"""The type that everything is cast to: two words of 8 bytes that are plain numbers."""

_CONSTANTS = ("NUMBER", "ARGUMENT", "SLOTS", "RETURNS", "PATH", "TRANSPORT", "SKIPS_NEW")
_FIRST_CONSTANT = 0x7EAD1000


@dataclass(frozen=True, slots=True)
class Casts:
    """BTF ids of the kernel's: of the function that casts, and of the type to cast to."""

    function: int
    words: int


def casts_of(types: KernelTypes) -> Casts | None:
    """Those of this kernel; None if it has no such function."""
    function, words = types.function_id(_FUNCTION), types.struct_id(_WORDS)
    return None if function is None or words is None else Casts(function, words)


def cast_macros(casts: Casts | None) -> dict[str, int]:
    """For bpf/current.h; none if the programs are to do without."""
    if casts is None:
        return {}
    return {"HAVE_CAST": casts.function, "KERNEL_CAST": _HELPER, "TYPE_OF_WORDS": casts.words}


def put_casts(bcc: Any, module: Any, function: int) -> None:
    """Make the calls in all programs of bcc's module calls of the kernel's function."""
    wanted = struct.pack("=BBhi", 0x85, 0, 0, _HELPER)
    replacement = struct.pack("=BBhi", 0x85, PSEUDO_KFUNC_CALL << 4, 0, function)
    for i in range(bcc.lib.bpf_num_functions(module)):
        name = bcc.lib.bpf_function_name(module, i)
        text = _replace(text_of(bcc, module, name.decode()), {wanted: replacement})
        ctypes.memmove(bcc.lib.bpf_function_start(module, name), text, len(text))


def constant_macros() -> dict[str, object]:
    """For bpf/functions.bpf.c: what the constants are before they are put."""
    return {f"CONSTANT_{name}": _FIRST_CONSTANT + i for i, name in enumerate(_CONSTANTS)}


def put_constants(text: bytes, constants: Mapping[str, int]) -> bytes:
    """The instructions with these constants, by `_CONSTANTS`."""
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
    """The instructions of the program of this name, as they are."""
    size = bcc.lib.bpf_function_size(module, name.encode())
    return ctypes.string_at(bcc.lib.bpf_function_start(module, name.encode()), size)


def _replace(text: bytes, replacements: Mapping[bytes, bytes]) -> bytes:
    parts = [text[at : at + 8] for at in range(0, len(text), 8)]
    return b"".join(replacements.get(part, part) for part in parts)
