# SPDX-License-Identifier: MIT
"""Signals as events to wait for: no handler, so nothing is ever interrupted half-way."""

import signal
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Arrived", "Signals"]

_SI_KERNEL = 0x80  # siginfo_t.si_code: sent by the kernel, as a terminal's driver sends Ctrl-C


@dataclass(frozen=True, slots=True)
class Arrived:
    """A signal; `to_group` tells that the terminal sent it to every process in the foreground."""

    number: int
    to_group: bool


class Signals:
    """Holds back Ctrl-C, SIGTERM, SIGHUP and SIGCHLD from `with` on, for `wait` to fetch.

    One that was ignored from the start (`nohup`) stays so. Enter it before making any thread.
    """

    def __init__(self) -> None:
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._numbers = {n for n in wanted if signal.getsignal(n) is not signal.SIG_IGN}
        self._numbers.add(signal.SIGCHLD)

    def __enter__(self) -> Self:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while signal.sigtimedwait(self._numbers, 0):
            pass  # a second Ctrl-C while the summary was printed ends nothing more
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def wait(self, seconds: float) -> Arrived | None:
        """Return the next signal, or None if none came in so long."""
        info = signal.sigtimedwait(self._numbers, max(0.0, seconds))
        return Arrived(info.si_signo, info.si_code == _SI_KERNEL) if info else None
