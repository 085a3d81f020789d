# SPDX-License-Identifier: MIT
"""Processes that the tests start and end, with a time limit on every wait."""

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

__all__ = ["TIMEOUT_SECONDS", "Child", "wait_until", "wait_until_blocked"]

# Everything takes ten times as long under emulation.
TIMEOUT_SECONDS = 300 if os.environ.get("LUNATIK_SOCKET_RING", "").startswith("kernel/") else 30
POLL_SECONDS = 0.005


class Child:
    """A fork of this process that runs one function and ends.

    `wait` returns its exit status, 128 + n if signal n ended it. After an exception it is 70.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            status = 70
            try:
                work()
                status = 0
            except BaseException:  # the child must end here in any case
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)

    def wait(self) -> int:
        descriptor = os.pidfd_open(self.pid)
        try:
            if not select.select([descriptor], [], [], TIMEOUT_SECONDS)[0]:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(f"the child did not end in {TIMEOUT_SECONDS} s")
        finally:
            os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return 128 - status if status < 0 else status

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal to it and wait until it ends."""
        os.kill(self.pid, number)
        return self.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition is true; TimeoutError after the time limit.

    It does not spin: what it waits for may need this CPU.
    """
    give_up = _now() + TIMEOUT_SECONDS
    while not condition():
        if _now() > give_up:
            raise TimeoutError(f"waited {TIMEOUT_SECONDS} s for {what}")
        time.sleep(POLL_SECONDS)


def wait_until_blocked(tid: int, *numbers: int) -> None:
    """Wait until the thread sleeps inside one of these system calls, by /proc/TID/syscall."""
    path = Path(f"/proc/{tid}/syscall")
    wait_until(
        lambda: path.read_text().split()[0] in {str(number) for number in numbers},
        f"thread {tid} to block in one of {numbers}",
    )


def _now() -> float:
    return os.times().elapsed
