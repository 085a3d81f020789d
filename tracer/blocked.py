"""Threads that are inside a read, write or close of something other than a socket right now.

A thread that was inside a call when tracing began shows up when it returns, as a return without
an entry. Whether that call was on a socket can no longer be told then; it can be beforehand.
"""

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path

__all__ = ["threads_blocked_elsewhere"]

# The numbers of the system calls whose first argument may be any file: read, write, readv, writev,
# close, sendfile.
_ANY_FILE = {
    "x86_64": frozenset({0, 1, 19, 20, 3, 40}),
    "aarch64": frozenset({63, 64, 65, 66, 57, 71}),
}


def threads_blocked_elsewhere(pids: tuple[int, ...] = ()) -> Iterator[int]:
    """The thread ids, of these processes or of all."""
    numbers = _ANY_FILE.get(platform.machine(), frozenset())
    processes = (Path(f"/proc/{pid}") for pid in pids) if pids else Path("/proc").glob("[1-9]*")
    for process in processes:
        for task in _tasks(process):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if _is_blocked_elsewhere(task, numbers):
                    yield int(task.name)


def _tasks(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _is_blocked_elsewhere(task: Path, numbers: frozenset[int]) -> bool:
    """By /proc/PID/task/TID/syscall: the number and arguments of the call, or "running"."""
    number, *arguments = (task / "syscall").read_text().split()
    if not arguments or int(number) not in numbers:
        return False
    return not (task / f"fd/{int(arguments[0], 16)}").readlink().name.startswith("socket:")
