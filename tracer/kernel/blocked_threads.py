# SPDX-License-Identifier: MIT
"""Threads that are in a system call when tracing starts.

The programs do not see such a call enter. When a read, write or close returns, they can no longer
tell whether it was on a socket. /proc can tell while the call is still in flight.
"""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

from tracer.kernel.architecture import architecture
from tracer.model.operations import Operation, Subject, SystemCall, system_calls
from tracer.model.snapshot import CallAtStart

__all__ = ["blocked_threads"]


def blocked_threads(
    pids: tuple[int, ...] = (), operations: Collection[str] = ()
) -> Iterator[tuple[CallAtStart, bool]]:
    """Yield the call that each thread of these processes (default: all) is in, and if it counts.

    Yields only system calls of `operations` (default: all). A call counts unless its system call
    takes any file and the file is not a socket.
    """
    numbers = architecture().numbers
    known = {
        numbers[call.name]: (operation, call)
        for operation, call in system_calls()
        if call.name in numbers and (not operations or operation.name in operations)
    }
    processes = (Path(f"/proc/{pid}") for pid in pids) if pids else Path("/proc").glob("[1-9]*")
    for process in processes:
        for task in _tasks(process):
            with contextlib.suppress(OSError):  # the thread has ended
                # The number and arguments of the call, or "running".
                number, *arguments = (task / "syscall").read_text().split()
                if arguments and (found := known.get(int(number))) is not None:
                    # An int: the kernel takes no more of the register.
                    yield _call(task, *found, int(arguments[0], 16) & 0xFFFFFFFF)


def _tasks(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _call(
    task: Path, operation: Operation, call: SystemCall, descriptor: int
) -> tuple[CallAtStart, bool]:
    counts = call.subject is not Subject.ANY_FILE or _is_socket(task, descriptor)
    takes_socket = call.subject in (Subject.SOCKET, Subject.ANY_FILE)
    comm = (task / "comm").read_bytes().removesuffix(b"\n").decode(errors="backslashreplace")
    return (
        CallAtStart(
            int(task.parts[2]),
            int(task.name),
            comm,
            operation.name,
            descriptor if takes_socket else None,
        ),
        counts,
    )


def _is_socket(task: Path, descriptor: int) -> bool:
    return (task / f"fd/{descriptor}").readlink().name.startswith("socket:")
