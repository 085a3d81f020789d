"""Threads that are inside a read, write or close of something other than a socket right now.

A thread that was inside a call when tracing began shows up when it returns, as a return without
an entry. Whether that call was on a socket can no longer be told then; it can be beforehand.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tracer.architecture import architecture
from tracer.operations import Subject, system_calls

__all__ = ["threads_blocked_elsewhere"]


def threads_blocked_elsewhere(pids: tuple[int, ...] = ()) -> Iterator[int]:
    """The thread ids, of these processes or of all."""
    numbers = frozenset(
        architecture().numbers[call.name]
        for _, call in system_calls()
        if call.subject is Subject.ANY_FILE
    )
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
