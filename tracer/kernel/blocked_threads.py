# SPDX-License-Identifier: MIT
"""Threads that are in a system call when tracing starts.

The programs do not see such a call enter. When a read, write or close returns, they can no longer
tell whether it was on a socket. /proc can tell while the call is still in flight.
"""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from tracer.kernel.architecture import architecture
from tracer.model.operations import Subject, system_calls

__all__ = ["blocked_threads"]


def blocked_threads(
    pids: tuple[int, ...] = (), operations: Collection[str] = ()
) -> Iterator[tuple[int, bool]]:
    """Yield thread ids of these processes (default: all), and whether the thread's call counts.

    Yields only threads in system calls of `operations` (default: all). A call counts unless its
    system call takes any file and the file is not a socket.
    """
    numbers = architecture().numbers
    subjects = {
        numbers[call.name]: call.subject
        for operation, call in system_calls()
        if call.name in numbers and (not operations or operation.name in operations)
    }
    processes = (Path(f"/proc/{pid}") for pid in pids) if pids else Path("/proc").glob("[1-9]*")
    for process in processes:
        for task in _tasks(process):
            with contextlib.suppress(OSError):  # the thread has ended
                # The number and arguments of the call, or "running".
                number, *arguments = (task / "syscall").read_text().split()
                if arguments and (subject := subjects.get(int(number))) is not None:
                    yield int(task.name), _counts(task, subject, int(arguments[0], 16))


def _tasks(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _counts(task: Path, subject: Subject, descriptor: int) -> bool:
    if subject is not Subject.ANY_FILE:
        return True
    return (task / f"fd/{descriptor}").readlink().name.startswith("socket:")
