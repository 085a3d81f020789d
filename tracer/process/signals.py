# SPDX-License-Identifier: MIT
"""Signals as events to wait for: no handler runs, so nothing is interrupted half-way.

They are read from a signalfd. signal.sigtimedwait() looks simpler, but when a stop (SIGSTOP, a
frozen cgroup) interrupts it and lasts past the deadline, CPython 3.11 returns an uninitialised
siginfo: a signal with a random number that was never sent. signal.set_wakeup_fd() does not say
who sent a signal.
"""

import contextlib
import ctypes
import math
import os
import select
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

__all__ = ["Arrived", "Signals"]

_SI_KERNEL = 0x80  # siginfo_t.si_code: sent by the kernel, as the terminal driver sends Ctrl-C
_SIGNALFD_SIGINFO = struct.Struct("=Iii116x")  # struct signalfd_siginfo: signo, errno, code, …
_SIGSET_BYTES = 128  # sigset_t of the C libraries; the first bit is signal 1
_LONGEST_SECONDS = 86400.0  # what poll(2) takes ends at 24 days


@dataclass(frozen=True, slots=True)
class Arrived:
    """A signal. `to_group`: the terminal sent it to every process in the foreground."""

    number: int
    to_group: bool


class Signals:
    """Holds back Ctrl-C, SIGTERM, SIGHUP and SIGCHLD inside `with`; `wait` fetches them.

    A signal that was ignored from the start (`nohup`) stays ignored. Enter the block before any
    thread is started: threads inherit which signals are held back.
    """

    def __init__(self) -> None:
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._numbers = {n for n in wanted if signal.getsignal(n) is not signal.SIG_IGN}
        self._numbers.add(signal.SIGCHLD)

    def __enter__(self) -> Self:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        self._descriptor = _signalfd(self._numbers)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._watched: dict[int, Callable[[], None]] = {}
        return self

    def __exit__(self, *_: object) -> None:
        while self._read() is not None:
            pass  # a second Ctrl-C while the summary was printed
        os.close(self._descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def watch(self, descriptor: int, act: Callable[[], None]) -> None:
        """Let `wait` call `act` when the descriptor is readable or its other end is closed."""
        self._watched[descriptor] = act
        self._poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        """Undo `watch`, before the descriptor is closed."""
        del self._watched[descriptor]
        self._poll.unregister(descriptor)

    def wait(self, seconds: float) -> Arrived | None:
        """Return the next signal; None if none came within `seconds`, or within a day.

        Also returns None after a watched descriptor was served.
        """
        milliseconds = math.ceil(min(max(0.0, seconds), _LONGEST_SECONDS) * 1000)
        ready = {descriptor for descriptor, _ in self._poll.poll(milliseconds)}
        for descriptor in ready - {self._descriptor}:
            self._watched[descriptor]()
        return self._read() if self._descriptor in ready else None

    def wait_for_watched(self, seconds: float) -> None:
        """Serve the watched descriptors, and leave signals for `wait`."""
        watched = select.poll()
        for descriptor in self._watched:
            watched.register(descriptor, select.POLLIN)
        for descriptor, _ in watched.poll(math.ceil(seconds * 1000)):
            self._watched[descriptor]()

    def _read(self) -> Arrived | None:
        with contextlib.suppress(BlockingIOError):
            number, _, code = _SIGNALFD_SIGINFO.unpack(
                os.read(self._descriptor, _SIGNALFD_SIGINFO.size)
            )
            return Arrived(number, code == _SI_KERNEL)
        return None


def _signalfd(numbers: set[signal.Signals]) -> int:
    """A non-blocking descriptor that these signals are read from; Python 3.11 has no such call."""
    mask = sum(1 << (number - 1) for number in numbers).to_bytes(_SIGSET_BYTES, "little")
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.signalfd(-1, mask, os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor
