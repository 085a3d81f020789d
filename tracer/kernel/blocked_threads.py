# SPDX-License-Identifier: MIT
"""Threads that are inside a call right now, before tracing begins.

When such a call returns, its entry was not seen. If it was a read, write or close, it can no longer
be told then whether it was on a socket; it can be beforehand.
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
    """Thread ids, of these processes or of all, and whether the call is one that counts.

    Only threads in system calls of `operations` (of all, if empty) are told; a call counts unless
    it may be on any file, and is on one that is no socket.
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
            with contextlib.suppress(OSError):  # it ended meanwhile
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
