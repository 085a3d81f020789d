"""Plain loads of the kernel's memory, where the kernel lets a program cast (6.2 on).

bpf_rdonly_cast() gives a number a type of the kernel's; what it points at can then be loaded like
any other field, where it would take a call of bpf_probe_read_kernel(). It is a function of the
kernel, named by its number in the kernel's types, for which bcc has no way. So the C text calls a
helper that no kernel has, and the calls are put right in the machine code before it is loaded.
"""

import ctypes
import struct
from typing import Any

from tracer import raw_bpf
from tracer.btf import KernelTypes

__all__ = ["cast_macros", "put_casts"]

_HELPER = 0x7EAD0001
_FUNCTION, _WORDS = "bpf_rdonly_cast", "timespec64"
"""The type that everything is cast to: two words of 8 bytes that are plain numbers."""


def cast_macros(types: KernelTypes) -> dict[str, object]:
    """For bpf/current.h; none where the kernel cannot do it, which is tried."""
    function, words = types.function_id(_FUNCTION), types.struct_id(_WORDS)
    if function is None or words is None or not _works(function, words):
        return {}
    return {"HAVE_CAST": 1, "KERNEL_CAST": _HELPER, "TYPE_OF_WORDS": words}


def _works(function: int, words: int) -> bool:
    try:
        with raw_bpf.load(raw_bpf.Kind.RAW_TRACEPOINT, raw_bpf.casting(function, words)):
            return True
    except OSError:
        return False


def put_casts(library: Any, module: Any) -> None:
    """Make the calls in all programs of bcc's module calls of the kernel's function."""
    with KernelTypes() as types:
        function = types.function_id(_FUNCTION)
    if function is None:
        return
    wanted = struct.pack("=BBhi", 0x85, 0, 0, _HELPER)
    replacement = struct.pack("=BBhi", 0x85, raw_bpf.PSEUDO_KERNEL_CALL << 4, 0, function)
    for i in range(library.bpf_num_functions(module)):
        name = library.bpf_function_name(module, i)
        size = library.bpf_function_size(module, name)
        text = (ctypes.c_char * size).from_address(library.bpf_function_start(module, name))
        for at in range(0, size, 8):
            if text[at : at + 8] == wanted:
                text[at : at + 8] = replacement
