# SPDX-License-Identifier: MIT
"""The system calls that a script in a sandbox may make. Every other one fails with EPERM.

They serve sockets, memory, time and output. None of them opens, maps or inspects a file, starts a
process or a thread, executes, traces, signals another process, or loads anything. The addresses of
bind, connect and the calls that send are behind pointers, which a filter cannot read. These calls
ask the supervisor (supervisor.py).
"""

from __future__ import annotations

import mmap
import socket
import termios
from collections.abc import Iterator
from fcntl import F_GETFD, F_GETFL, F_SETFD, F_SETFL

from lunatik_socket.options import every_option
from tracer.process.seccomp import Argument, Rule

__all__ = ["rules", "supervisor_rules"]

_INT = 0xFFFFFFFF  # the kernel takes these 32 bits of the register

_FREELY = (
    # Sockets, once they exist. Their addresses were checked, or are the kernel's own answer.
    *("accept", "accept4", "getpeername", "getsockname", "shutdown", "close"),
    *("recvfrom", "recvmsg", "read", "readv", "write", "writev"),
    *("poll", "ppoll", "select", "pselect6"),
    *("epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2"),
    # Memory. What brk and mremap give is never executable.
    *("brk", "munmap", "mremap", "madvise"),
    # Time and random numbers.
    *("clock_gettime", "clock_getres", "clock_nanosleep", "gettimeofday", "nanosleep", "time"),
    "getrandom",
    # The process itself: locks, its own signal handlers, its own ids, its end.
    *("futex", "sched_yield", "restart_syscall", "exit", "exit_group"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid"),
)
_ASKING = ("bind", "connect", "listen", "sendmsg")
_SUPERVISOR = (
    *("bind", "connect", "listen", "sendmsg", "sendto", "pidfd_getfd", "ioctl", "pread64"),
    *("read", "write", "close", "dup2", "dup3", "fstat", "newfstatat"),
    # To end like the script.
    *("wait4", "waitid", "getrusage", "prlimit64", "setrlimit", "getpid", "gettid"),
    *("brk", "munmap", "mremap", "madvise", "futex", "sched_yield", "rseq", "set_robust_list"),
    *("clock_gettime", "clock_nanosleep", "getrandom", "restart_syscall", "exit", "exit_group"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
)
_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_RCVTIMEO),
    (socket.SOL_SOCKET, socket.SO_SNDTIMEO),
    (socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
    (socket.SOL_SOCKET, socket.SO_DOMAIN),
    (socket.SOL_SOCKET, socket.SO_PROTOCOL),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
)
_FILE_FLAGS = (F_GETFD, F_SETFD, F_GETFL, F_SETFL)
_FIONBIO = 0x5421


def rules() -> Iterator[str | Rule]:
    """Every rule of the filter."""
    yield from _FREELY
    yield from (Rule(name, asks=True) for name in _ASKING)
    yield from _sending()
    yield from _new_sockets()
    yield from _options()
    yield from _memory()
    yield from (Rule("fcntl", (Argument(1, command, _INT),)) for command in _FILE_FLAGS)
    yield from (
        Rule("ioctl", (Argument(1, request, _INT),)) for request in (_FIONBIO, termios.FIONREAD)
    )


def supervisor_rules(process: int) -> Iterator[str | Rule]:
    """What the supervisor, the process `process`, may do: the script's calls, and to end."""
    yield from _SUPERVISOR
    yield from _memory()
    for call in ("kill", "tgkill"):
        yield Rule(call, (Argument(0, process, _INT),))


def _sending() -> Iterator[Rule]:
    # send(2) is sendto(2) without an address: it goes to the peer, which was checked.
    yield Rule("sendto", (Argument(4, 0),))
    yield Rule("sendto", (Argument(4, 0, unequal=True),), asks=True)


def _new_sockets() -> Iterator[Rule]:
    # SOCK_NONBLOCK and SOCK_CLOEXEC are above the type.
    for family in (socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            yield Rule("socket", (Argument(0, family, _INT), Argument(1, kind, 0xF)))
    # Python's asyncio wakes itself with a pair. It has no address, and can send to none.
    yield Rule("socketpair", (Argument(0, socket.AF_UNIX, _INT),))


def _options() -> Iterator[Rule]:
    for level, number in (*every_option(), *_SOCKET_OPTIONS):
        for call in ("getsockopt", "setsockopt"):
            yield Rule(call, (Argument(1, level, _INT), Argument(2, number, _INT)))


def _memory() -> Iterator[Rule]:
    anonymous = Argument(3, mmap.MAP_ANONYMOUS, mmap.MAP_ANONYMOUS)
    yield Rule("mmap", (Argument(2, 0, mmap.PROT_EXEC), anonymous))
    yield Rule("mprotect", (Argument(2, 0, mmap.PROT_EXEC),))
