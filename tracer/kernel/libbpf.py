# SPDX-License-Identifier: MIT
"""libbpf.so.1 through ctypes: the few calls we need. Every libbpfcc brings the library along."""

import ctypes
import functools
import os

from tracer.errors import UnsupportedError

__all__ = ["last_error", "libbpf", "object_info"]


@functools.cache
def libbpf() -> ctypes.CDLL:
    """The library, with the argument types of the calls used here declared."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise UnsupportedError(
            "load", "libbpf.so.1", "not found", hint="install libbpf1 (Debian, Ubuntu) or libbpf"
        ) from error
    pointer, number, integer = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
    for name, result, arguments in [
        ("btf__load_vmlinux_btf", pointer, []),
        ("btf__free", None, [pointer]),
        ("btf__type_by_id", pointer, [pointer, number]),
        ("btf__find_by_name_kind", integer, [pointer, ctypes.c_char_p, number]),
        ("btf__name_by_offset", ctypes.c_char_p, [pointer, number]),
        ("bpf_map_lookup_elem", integer, [integer, pointer, pointer]),
        ("bpf_map_update_elem", integer, [integer, pointer, pointer, ctypes.c_uint64]),
        ("bpf_map_lookup_batch", integer, [integer] + [pointer] * 6),
        ("bpf_obj_get_info_by_fd", integer, [integer, pointer, pointer]),
        ("bpf_enable_stats", integer, [integer]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def last_error() -> OSError:
    """The failure that the last call of the library left in errno."""
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def object_info(descriptor: int, info: ctypes.Structure) -> None:
    """Fill `info` (the head of struct bpf_map_info or bpf_prog_info); raises OSError."""
    size = ctypes.c_uint32(ctypes.sizeof(info))
    if libbpf().bpf_obj_get_info_by_fd(descriptor, ctypes.byref(info), ctypes.byref(size)) < 0:
        raise last_error()
