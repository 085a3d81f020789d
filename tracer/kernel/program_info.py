# SPDX-License-Identifier: MIT
"""What the kernel reports of a loaded BPF program: size, run time, runs, and runs it skipped."""

import ctypes

from tracer.kernel.libbpf import checked, libbpf, object_info

__all__ = ["ProgramInfo", "enable_run_statistics", "program_info"]

_STATS_RUN_TIME = 0  # BPF_STATS_RUN_TIME


class ProgramInfo(ctypes.Structure):
    """The kernel's struct bpf_prog_info as of v5.12; fields that an older kernel lacks stay 0."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("tag", ctypes.c_uint8 * 8),
        ("jited_length", ctypes.c_uint32),
        ("translated_length", ctypes.c_uint32),
        ("jited_instructions", ctypes.c_uint64),
        ("translated_instructions", ctypes.c_uint64),
        ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32),
        ("number_of_maps", ctypes.c_uint32),
        ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16),
        ("ifindex", ctypes.c_uint32),
        ("gpl_compatible", ctypes.c_uint32),
        ("netns_device", ctypes.c_uint64),
        ("netns_inode", ctypes.c_uint64),
        ("number_of_symbols", ctypes.c_uint32),
        ("number_of_function_lengths", ctypes.c_uint32),
        ("symbols", ctypes.c_uint64),
        ("function_lengths", ctypes.c_uint64),
        ("btf_id", ctypes.c_uint32),
        ("function_record_size", ctypes.c_uint32),
        ("functions", ctypes.c_uint64),
        ("number_of_functions", ctypes.c_uint32),
        ("number_of_lines", ctypes.c_uint32),
        ("lines", ctypes.c_uint64),
        ("jited_lines", ctypes.c_uint64),
        ("number_of_jited_lines", ctypes.c_uint32),
        ("line_record_size", ctypes.c_uint32),
        ("jited_line_record_size", ctypes.c_uint32),
        ("number_of_tags", ctypes.c_uint32),
        ("tags", ctypes.c_uint64),
        ("run_time_ns", ctypes.c_uint64),
        ("run_count", ctypes.c_uint64),
        ("recursion_misses", ctypes.c_uint64),
    )


def program_info(descriptor: int) -> ProgramInfo:
    """The kernel's information on the program with this descriptor; raises OSError."""
    info = ProgramInfo()
    object_info(descriptor, info)
    return info


def enable_run_statistics() -> int:
    """Make the kernel measure BPF programs' run time until the returned descriptor is closed."""
    return checked(libbpf().bpf_enable_stats(_STATS_RUN_TIME))
