# SPDX-License-Identifier: MIT
"""Threads that wait in a system call now, from /proc.

When tracing starts, the programs have not seen such a call enter. When a read, write or close
returns, they can no longer tell whether it was on a socket. /proc can tell while the call is still
in flight.
"""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from tracer.kernel.architecture import architecture
from tracer.model.operations import Operation, Subject, SystemCall, system_calls
from tracer.model.snapshot import CallAtStart

__all__ = ["BlockedThread", "blocked_threads", "calls_at_start", "thread_name"]


class BlockedThread(NamedTuple):
    """A thread that waits in a system call; `task` is its directory in /proc.

    `arguments` are the six registers of the call's arguments.
    """

    task: Path
    operation: Operation
    call: SystemCall
    arguments: tuple[int, ...]

    @property
    def pid(self) -> int:
        """The number of its process."""
        return int(self.task.parts[2])

    @property
    def tid(self) -> int:
        """Its own number."""
        return int(self.task.name)

    @property
    def descriptor(self) -> int | None:
        """The first argument, if it is a descriptor."""
        if self.call.subject in (Subject.SOCKET, Subject.ANY_FILE):
            return (
                self.arguments[0] & 0xFFFFFFFF
            )  # an int: the kernel takes no more of the register
        return None


def calls_at_start(
    pids: tuple[int, ...] = (), operations: Collection[str] = ()
) -> Iterator[tuple[CallAtStart, bool]]:
    """Yield the call that each thread of these processes (default: all) is in, and if it counts.

    Yields only system calls of `operations` (default: all). A call counts unless its system call
    takes any file and the file is not a socket.
    """
    for thread in blocked_threads(pids, operations):
        with contextlib.suppress(OSError):  # the thread has ended
            counts = thread.call.subject is not Subject.ANY_FILE or _is_socket(thread)
            name = thread_name(thread.task)
            call = CallAtStart(
                thread.pid, thread.tid, name, thread.operation.name, thread.descriptor
            )
            yield call, counts


def blocked_threads(
    pids: tuple[int, ...] = (), operations: Collection[str] = ()
) -> Iterator[BlockedThread]:
    """Yield the threads of these processes (default: all) that are in a call of `operations`."""
    numbers = architecture().numbers
    known = {
        numbers[call.name]: (operation, call)
        for operation, call in system_calls()
        if call.name in numbers and (not operations or operation.name in operations)
    }
    processes = (Path(f"/proc/{pid}") for pid in pids) if pids else Path("/proc").glob("[1-9]*")
    for process in processes:
        for task in _tasks(process):
            with contextlib.suppress(OSError):  # the thread has ended, or is not ours to look at
                # The number and arguments of the call, or "running".
                number, *arguments = (task / "syscall").read_text().split()
                if arguments and (found := known.get(int(number))) is not None:
                    registers = tuple(int(argument, 16) for argument in arguments[:6])
                    yield BlockedThread(task, *found, registers)


def thread_name(task: Path) -> str:
    """The name of a thread or process; raises OSError if it has ended."""
    name = (task / "comm").read_bytes().removesuffix(b"\n")
    return name.decode(errors="backslashreplace")


def _tasks(process: Path) -> list[Path]:
    try:
        return list((process / "task").iterdir())
    except OSError:
        return []


def _is_socket(thread: BlockedThread) -> bool:
    file = (thread.task / f"fd/{thread.descriptor}").readlink()
    return file.name.startswith("socket:")
