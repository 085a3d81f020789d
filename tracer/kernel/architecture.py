# SPDX-License-Identifier: MIT
"""What differs between processor architectures: system call numbers, registers, 32-bit programs.

The numbers are those of the kernel's arch/x86/entry/syscalls/syscall_64.tbl and of
include/uapi/asm-generic/unistd.h, which arm64 uses.
"""

import platform
from dataclasses import dataclass

from tracer.errors import UnsupportedError

__all__ = ["Architecture", "architecture"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture, as its kernel's types have it.

    `numbers` are those of the 64-bit system calls, by the kernel's names; `prefix` and such a name
    make that of the kernel's function. `arguments` tells where a
    call's first arguments are: fields of struct pt_regs, and bytes to add to their offsets;
    `number` the field with the system call's number. `compat` is the field of struct thread_info
    and the bit in it that tells a call by a 32-bit program, which has other numbers.
    """

    numbers: dict[str, int]
    prefix: str
    arguments: tuple[tuple[str, int], ...]
    number: str
    compat: tuple[str, int]


_X86_64 = Architecture(
    numbers={
        "read": 0,
        "write": 1,
        "close": 3,
        "poll": 7,
        "readv": 19,
        "writev": 20,
        "select": 23,
        "sendfile64": 40,
        "socket": 41,
        "connect": 42,
        "accept": 43,
        "sendto": 44,
        "recvfrom": 45,
        "sendmsg": 46,
        "recvmsg": 47,
        "bind": 49,
        "listen": 50,
        "getsockname": 51,
        "getpeername": 52,
        "socketpair": 53,
        "setsockopt": 54,
        "getsockopt": 55,
        "epoll_create": 213,
        "epoll_wait": 232,
        "pselect6": 270,
        "ppoll": 271,
        "epoll_pwait": 281,
        "accept4": 288,
        "epoll_create1": 291,
        "perf_event_open": 298,
        "recvmmsg": 299,
        "sendmmsg": 307,
        "bpf": 321,
        "epoll_pwait2": 441,
    },
    prefix="__x64_sys_",
    arguments=(("di", 0), ("si", 0), ("dx", 0)),
    number="orig_ax",
    compat=("status", 1 << 1),  # TS_COMPAT
)
_AARCH64 = Architecture(
    numbers={
        "epoll_create1": 20,
        "epoll_pwait": 22,
        "close": 57,
        "read": 63,
        "write": 64,
        "readv": 65,
        "writev": 66,
        "sendfile64": 71,
        "pselect6": 72,
        "ppoll": 73,
        "socket": 198,
        "socketpair": 199,
        "bind": 200,
        "listen": 201,
        "accept": 202,
        "connect": 203,
        "getsockname": 204,
        "getpeername": 205,
        "sendto": 206,
        "recvfrom": 207,
        "setsockopt": 208,
        "getsockopt": 209,
        "sendmsg": 211,
        "recvmsg": 212,
        "perf_event_open": 241,
        "accept4": 242,
        "recvmmsg": 243,
        "sendmmsg": 269,
        "bpf": 280,
        "epoll_pwait2": 441,
    },
    prefix="__arm64_sys_",
    arguments=(("regs", 0), ("regs", 8), ("regs", 16)),
    number="syscallno",
    compat=("flags", 1 << 22),  # TIF_32BIT
)
_ARCHITECTURES = {"x86_64": _X86_64, "aarch64": _AARCH64}


def architecture() -> Architecture:
    """That of the running kernel; raises UnsupportedError if it is none of ours."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        raise UnsupportedError(
            "trace on",
            machine,
            "its system call numbers are unknown",
            hint=f"needs {' or '.join(_ARCHITECTURES)}",
        )
    return _ARCHITECTURES[machine]
