# SPDX-License-Identifier: MIT
"""What each process may do once it is confined. This is the one place that says so.

WORKER   reads the maps, shows the numbers and serves the metrics. Any client of the metrics may
         talk to it, so it has nothing: no capability, no new process, no new socket, no file to
         write. What it cannot do itself, it asks the broker for (`tracer.privileges.requests`).
BROKER   the process that was started as root. It keeps the probes, passes signals to the started
         command and answers the worker. It reads /proc, tracefs and NETLINK_SOCK_DIAG, and has no
         network socket.
SERVER   the SOCKSv4 proxy and the echo server, after they listen.

A worker on a kernel before 5.19 also keeps CAP_BPF: there the kernel lets nobody else read a map,
not even by its descriptor, unless kernel.unprivileged_bpf_disabled is 0 (commit c8644cd0efe7 ("bpf:
refine kernel.unprivileged_bpf_disabled behaviour") in v5.19). It is kept if a map cannot be read
without it.
"""

import errno
import os
import socket
from dataclasses import dataclass

from tracer.process.seccomp import Argument, Rule

__all__ = [
    "BROKER",
    "CAPABILITY_NAMES",
    "CAP_BPF",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "SERVER",
    "WORKER",
    "Powers",
]

CAP_DAC_READ_SEARCH, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP = 2, 5, 6, 7, 8
CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF = 12, 19, 38, 39

CAPABILITY_NAMES = {
    CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
    CAP_KILL: "CAP_KILL",
    CAP_SETGID: "CAP_SETGID",
    CAP_SETUID: "CAP_SETUID",
    CAP_SETPCAP: "CAP_SETPCAP",
    CAP_NET_ADMIN: "CAP_NET_ADMIN",
    CAP_SYS_PTRACE: "CAP_SYS_PTRACE",
    CAP_PERFMON: "CAP_PERFMON",
    CAP_BPF: "CAP_BPF",
}

_Calls = tuple[str | Rule, ...]

_INT = 0xFFFFFFFF
_WRITES = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
_CLONE_THREAD = 0x00010000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_PR_SET_NAME = 15


@dataclass(frozen=True, slots=True)
class Powers:
    """What a process keeps. Every system call is allowed if `allowed` is empty, or those only.

    `refused` fail with EPERM, unless a rule has an errno of its own.
    """

    capabilities: frozenset[int] = frozenset()
    allowed: _Calls = ()
    refused: _Calls = ()


def _one_of(call: str, number: int, values: tuple[int, ...]) -> tuple[Rule, ...]:
    """The system call, if its int argument `number` is one of the values."""
    return tuple(Rule(call, (Argument(number, value, _INT),)) for value in values)


# The commands of bpf(2) that read and write maps by descriptor, and what they are about.
_MAP_COMMANDS = (
    1,  # BPF_MAP_LOOKUP_ELEM
    2,  # BPF_MAP_UPDATE_ELEM
    3,  # BPF_MAP_DELETE_ELEM
    4,  # BPF_MAP_GET_NEXT_KEY
    15,  # BPF_OBJ_GET_INFO_BY_FD
    21,  # BPF_MAP_LOOKUP_AND_DELETE_ELEM
    24,  # BPF_MAP_LOOKUP_BATCH
    25,  # BPF_MAP_LOOKUP_AND_DELETE_BATCH
    26,  # BPF_MAP_UPDATE_BATCH
    27,  # BPF_MAP_DELETE_BATCH
)

_TERMINAL = (
    0x5401,  # TCGETS: isatty(3), and whether the terminal has hung up
    0x5413,  # TIOCGWINSZ: its size
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5451,  # FIOCLEX
)

_READING: _Calls = (
    *("read", "readv", "pread64", "lseek", "fstat", "newfstatat", "fstatat64", "stat", "lstat"),
    *("statx", "getdents64", "readlink", "readlinkat", "access", "faccessat", "faccessat2"),
    *("getcwd", "statfs", "fstatfs"),
    Rule("open", (Argument(1, os.O_RDONLY, _WRITES),)),
    Rule("openat", (Argument(2, os.O_RDONLY, _WRITES),)),
)
_WRITING: _Calls = ("write", "writev", "pwrite64", "ftruncate", "fsync", "fdatasync")
_DESCRIPTORS: _Calls = (
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "pipe",
    "pipe2",
    "eventfd2",
)
_WAITING: _Calls = (
    *("poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait"),
    *("epoll_pwait", "nanosleep", "clock_nanosleep", "restart_syscall", "rt_sigtimedwait"),
)
_CONNECTIONS: _Calls = (
    *("accept", "accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "getsockname"),
    *("getpeername", "getsockopt", "setsockopt"),
)
_MEMORY: _Calls = ("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "membarrier")
_THREADS: _Calls = (
    Rule("clone", (Argument(0, _CLONE_THREAD, _CLONE_THREAD),)),
    # Its flags are in memory, where a filter cannot read them. The C library then uses clone.
    Rule("clone3", errno=errno.ENOSYS),
    *("futex", "set_robust_list", "get_robust_list", "rseq", "sched_yield", "sched_getaffinity"),
    *("sched_getscheduler", "sched_getparam", "sched_setscheduler", "gettid", "exit"),
    *_one_of("prctl", 0, (_PR_SET_NAME,)),
)
_SIGNALS: _Calls = (
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigpending",
    "sigaltstack",
)
_OWN_STATE: _Calls = (
    *("getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getpgrp", "getsid"),
    *("getrusage", "times", "clock_gettime", "clock_getres", "gettimeofday", "time", "getrandom"),
    *("uname", "sysinfo", "getrlimit", "exit_group"),
    # Of this process only, and only to read them.
    Rule("prlimit64", (Argument(0, 0, _INT), Argument(2, 0))),
)

WORKER = Powers(
    allowed=(
        *_one_of("bpf", 0, _MAP_COMMANDS),
        *_one_of("ioctl", 1, _TERMINAL),
        *(*_READING, *_WRITING, *_DESCRIPTORS, *_WAITING, *_CONNECTIONS),
        *(*_MEMORY, *_THREADS, *_SIGNALS, *_OWN_STATE),
        "memfd_create",  # OpenSSL reads certificates and keys from files only
    )
)

# What no confined process does, and what kernel exploits need most.
_NEVER: _Calls = (
    *("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    *("pidfd_getfd", "process_madvise", "perf_event_open", "userfaultfd", "keyctl", "add_key"),
    *("request_key", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot"),
    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsmount"),
    *("fsconfig", "fspick", "mount_setattr", "swapon", "swapoff", "quotactl", "acct", "nfsservctl"),
    *("unshare", "setns", "personality", "iopl", "ioperm", "modify_ldt", "vm86", "syslog"),
    *("open_by_handle_at", "name_to_handle_at", "lookup_dcookie", "fanotify_init"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups"),
    *("setfsuid", "setfsgid", "capset", "sethostname", "setdomainname", "settimeofday"),
    *("clock_settime", "clock_adjtime", "adjtimex", "stime"),
    *("mknod", "mknodat", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown"),
    *("fchownat", "setxattr", "lsetxattr", "fsetxattr", "removexattr"),
    *("link", "linkat", "symlink", "symlinkat", "rename", "renameat", "renameat2", "truncate"),
    *("mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "creat"),
    Rule("openat2", errno=errno.ENOSYS),  # its flags are in memory
    *(Rule("ioctl", (Argument(1, number, _INT),)) for number in (_TIOCSTI, _TIOCLINUX)),
)


def _opens_to_write() -> tuple[Rule, ...]:
    """Every way to open or make a file for writing."""
    flags = (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)
    return tuple(
        Rule(call, (Argument(number, flag, os.O_ACCMODE if flag <= os.O_RDWR else flag),))
        for call, number in (("open", 1), ("openat", 2))
        for flag in flags
    )


_NETWORK_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_PACKET)

BROKER = Powers(
    capabilities=frozenset(
        {
            CAP_DAC_READ_SEARCH,  # /proc/PID/fd of other users, tracefs
            CAP_SYS_PTRACE,  # /proc/PID/syscall, /proc/PID/fd
            CAP_KILL,  # the started command, which may run as another user
            CAP_NET_ADMIN,  # NETLINK_SOCK_DIAG with all attributes
            CAP_BPF,  # bpf(2) before 5.19
            CAP_PERFMON,
        }
    ),
    refused=(*_NEVER, *_opens_to_write(), *_one_of("socket", 0, _NETWORK_FAMILIES)),
)

SERVER = Powers(refused=(*_NEVER, *_opens_to_write(), "bpf", *_one_of("socket", 0, (16, 17))))
