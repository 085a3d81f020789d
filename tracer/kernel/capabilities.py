# SPDX-License-Identifier: MIT
"""Checks what tracing needs from the machine, the kernel and the user; each error has a hint."""

import contextlib
import os
import resource
from pathlib import Path

from tracer.errors import PermissionRefused, UnsupportedError

__all__ = [
    "has_capability",
    "in_initial_pid_namespace",
    "kernel_preempts",
    "lift_memory_limit",
    "require_basics",
    "require_rights",
    "tracefs_directory",
]

CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # the kernel's PROC_PID_INIT_INO


def has_capability(number: int) -> bool:
    """Whether this process has the capability (CapEff in /proc/self/status)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def tracefs_directory() -> Path:
    """Where tracefs is mounted; raises UnsupportedError if it is not mounted."""
    for path in (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing")):
        try:
            if (path / "events/syscalls").is_dir():
                return path
        except PermissionError as error:
            raise PermissionRefused(
                "read tracefs in",
                str(path),
                errno=error.errno,
                hint="run as root, or add CAP_DAC_READ_SEARCH to CAP_BPF and CAP_PERFMON",
            ) from error
    raise UnsupportedError(
        "find tracefs in",
        "/sys/kernel/tracing",
        "not mounted",
        hint="mount -t tracefs tracefs /sys/kernel/tracing",
    )


def in_initial_pid_namespace() -> bool:
    """Whether process ids here are the same as those that the BPF programs see."""
    return Path("/proc/self/ns/pid").stat().st_ino == _INITIAL_PID_NAMESPACE


def kernel_preempts() -> bool:
    """Whether the kernel may preempt a thread inside the kernel; true if unknown."""
    try:  # with CONFIG_PREEMPT_DYNAMIC: "none (voluntary) full", the current one in parentheses
        chosen = Path("/sys/kernel/debug/sched/preempt").read_text()
    except OSError:
        return "PREEMPT" in os.uname().version
    return "(none)" not in chosen and "(voluntary)" not in chosen


def require_rights() -> None:
    """Raise PermissionRefused unless this user may load and attach BPF programs."""
    if has_capability(CAP_SYS_ADMIN) or (has_capability(CAP_BPF) and has_capability(CAP_PERFMON)):
        return
    raise PermissionRefused(
        "trace as user", str(os.getuid()), "needs CAP_BPF and CAP_PERFMON", hint="run as root"
    )


def lift_memory_limit() -> None:
    """Raise the limit of locked memory, which maps and programs count against before 5.11.

    Since 5.11 they count as memory of the cgroup. Does nothing where it is not allowed.
    """
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)


def require_basics() -> None:
    """Raise PermissionRefused if this user may not trace; else prepare to load programs."""
    require_rights()
    lift_memory_limit()
