# SPDX-License-Identifier: MIT
"""The main loop of a trace: wait, answer the worker, pass signals on, stop."""

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tracer.cli.worker import Worker
from tracer.process.command import StartedCommand
from tracer.process.hang_up import is_session_leader, leave_lost_terminal
from tracer.process.service_manager import ServiceManager
from tracer.process.signals import Signals

__all__ = ["Loop"]

_GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
_LOOK_SECONDS = 1.0  # how often to look whether the traced processes have ended


class Loop:
    """Waits for a signal, the end of the worker or the command, or the end of the time.

    Without a `child` it runs until all `pids` have ended; without `pids` until it is stopped.
    Under a service manager SIGHUP means `reload`; else it ends the trace like SIGTERM.
    """

    def __init__(
        self,
        worker: Worker,
        signals: Signals,
        child: StartedCommand | None,
        *,
        duration: float | None,
        pids: Sequence[int],
        manager: ServiceManager,
        reload: Callable[[], None],
    ) -> None:
        self._worker, self._signals, self._child = worker, signals, child
        self._pids = pids
        self._manager, self._reload = manager, reload
        self._stop_at = time.monotonic() + duration if duration else None
        self._stopping = False
        self._status: int | None = None

    def run(self) -> int:
        """Return the exit status."""
        while not self._is_over():
            now = time.monotonic()
            if self._stop_at is not None and now >= self._stop_at:
                self._time_is_up()
                continue
            self._manager.alive()
            arrived = self._signals.wait(self._next_event() - time.monotonic())
            if arrived is not None and arrived.number != signal.SIGCHLD:
                self._signalled(arrived.number, to_group=arrived.to_group)
        return self._status or 0

    def _next_event(self) -> float:
        times = [time.monotonic() + _LOOK_SECONDS]
        if self._stop_at is not None:
            times.append(self._stop_at)
        if self._manager.alive_seconds is not None:
            times.append(time.monotonic() + self._manager.alive_seconds)
        return min(times)

    def _is_over(self) -> bool:
        if self._status is not None:
            return True
        if self._child is not None:
            self._status = self._child.poll()
            if self._stopping and self._status in (128 + signal.SIGTERM, 128 + signal.SIGKILL):
                self._status = 0  # --duration ended it
        elif self._pids and not any(Path(f"/proc/{pid}").is_dir() for pid in self._pids):
            self._status = 0
        if self._status is None:
            self._status = self._worker.poll()
        return self._status is not None

    def _time_is_up(self) -> None:
        if self._child is None:
            self._status = 0
        else:
            self._child.send(signal.SIGKILL if self._stopping else signal.SIGTERM)
            self._stopping = True
            self._stop_at = time.monotonic() + _GRACE_SECONDS

    def _signalled(self, number: int, *, to_group: bool) -> None:
        if number == signal.SIGHUP and self._manager.is_there:
            self._reload()
            return
        hung_up = number == signal.SIGHUP and to_group
        if hung_up:
            leave_lost_terminal()
        if self._child is None:
            self._status = 0
        elif not to_group or (hung_up and is_session_leader()):
            self._child.send(number)
