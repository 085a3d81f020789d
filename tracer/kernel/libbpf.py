# SPDX-License-Identifier: MIT
"""libbpf.so.1 through ctypes: the few calls used here. libbpfcc depends on it.

Works with libbpf 1.1 and later. Options are passed as a struct that begins with its own size.
libbpf takes missing fields as zero, so the structs here end with the last field of 1.1.
"""

import ctypes
import functools
import os
from typing import Any

from tracer.errors import UnsupportedError

__all__ = ["LinkOptions", "LoadOptions", "checked", "last_error", "libbpf", "object_info"]


class _Options(ctypes.Structure):
    """A struct of options: `sz`, its first field, is the struct's size."""

    def __init__(self, **values: Any) -> None:
        super().__init__(ctypes.sizeof(self), **values)


class LoadOptions(_Options):
    """libbpf's struct bpf_prog_load_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_void_p),
    )


class LinkOptions(_Options):
    """libbpf's struct bpf_link_create_opts, with the kprobe_multi part of its union."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
        ("target_btf_id", ctypes.c_uint32),
        ("kprobe_multi_flags", ctypes.c_uint32),
        ("kprobe_multi_cnt", ctypes.c_uint32),
        ("kprobe_multi_syms", ctypes.POINTER(ctypes.c_char_p)),
        ("kprobe_multi_addrs", ctypes.c_void_p),
        ("kprobe_multi_cookies", ctypes.c_void_p),
    )


@functools.cache
def libbpf() -> ctypes.CDLL:
    """The library, with argument types declared for the calls used here."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise UnsupportedError(
            "load", "libbpf.so.1", "not found", hint="install libbpf1 (Debian, Ubuntu) or libbpf"
        ) from error
    pointer, number, integer, text = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in [
        ("libbpf_set_print", pointer, [pointer]),
        ("btf__load_vmlinux_btf", pointer, []),
        ("btf__free", None, [pointer]),
        ("btf__type_by_id", pointer, [pointer, number]),
        ("btf__find_by_name_kind", integer, [pointer, text, number]),
        ("btf__name_by_offset", text, [pointer, number]),
        ("bpf_map_create", integer, [integer, text, number, number, number, pointer]),
        ("bpf_map_lookup_elem", integer, [integer, pointer, pointer]),
        ("bpf_map_update_elem", integer, [integer, pointer, pointer, ctypes.c_uint64]),
        ("bpf_map_delete_elem", integer, [integer, pointer]),
        ("bpf_map_lookup_batch", integer, [integer] + [pointer] * 6),
        ("bpf_prog_load", integer, [integer, text, text, text, ctypes.c_size_t, pointer]),
        ("bpf_raw_tracepoint_open", integer, [text, integer]),
        ("bpf_link_create", integer, [integer, integer, integer, pointer]),
        ("bpf_obj_get_info_by_fd", integer, [integer, pointer, pointer]),
        ("bpf_enable_stats", integer, [integer]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(None)  # no warnings: the exceptions say what failed
    return library


def last_error() -> OSError:
    """The error of the last call of the library, from errno."""
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def checked(result: int) -> int:
    """Return the result of a call of the library; raises OSError if it is an error."""
    if result < 0:
        raise last_error()
    return result


def object_info(descriptor: int, info: ctypes.Structure) -> None:
    """Fill `info` (the head of struct bpf_map_info or bpf_prog_info); raises OSError."""
    size = ctypes.c_uint32(ctypes.sizeof(info))
    checked(libbpf().bpf_obj_get_info_by_fd(descriptor, ctypes.byref(info), ctypes.byref(size)))
