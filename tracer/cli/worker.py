# SPDX-License-Identifier: MIT
"""The worker: the unprivileged process that reads the maps, shows the numbers, serves the metrics.

It is forked when every probe is attached, and confined before it does anything else
(`tracer.privileges.powers`). It has the descriptors of the maps, the listening socket, its output
files and its end of a socket pair to the process that it was forked from. That one is the broker:
it keeps the probes, and answers the worker's requests. Neither outlives the other.
"""

import gc
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn, Self

from tracer.cli.entry import exit_status
from tracer.errors import TracerError
from tracer.privileges.broker import Answerer, requests_over
from tracer.privileges.confine import confine
from tracer.privileges.powers import BROKER, WORKER
from tracer.process.hang_up import null_device
from tracer.process.identity import service_user
from tracer.process.rights import set_death_signal
from tracer.process.signals import Signals
from tracer.session import Session

__all__ = ["Orders", "Worker"]

_FINISH, _FINISH_SILENTLY = b"f", b"s"


class Orders:
    """The worker's view of the broker: say that it is ready, wait for the order to finish."""

    def __init__(self, session: Session, descriptor: int) -> None:
        self.session = session
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def ready(self) -> None:
        """Tell the broker that the traced command may start."""
        self.session.ask.ready()

    def wait(self, until: float) -> bool | None:
        """Wait for the order to finish, until this time; return None if it did not come.

        True: show the last numbers and the summary. Ends this process if the broker has ended.
        """
        if not self._poll.poll(max(0.0, until - time.monotonic()) * 1000):
            return None
        order = os.read(self._descriptor, 1)
        if not order:
            os._exit(1)
        return order == _FINISH


class Worker:
    """Runs `work` in a second process, from `__enter__` on; see the head of this file.

    `prepare` runs there first, with all rights, and `work` after them; it returns an exit status.
    `descriptors` are those that it keeps besides the maps and standard input to error. Enter it
    before any thread is started, and with `signals` held back.
    """

    def __init__(
        self,
        session: Session,
        signals: Signals,
        prepare: Callable[[], None],
        work: Callable[[Orders], int],
        descriptors: Iterable[int],
    ) -> None:
        self._session, self._signals = session, signals
        self._prepare, self._work = prepare, work
        self._descriptors = tuple(descriptors)
        self._status: int | None = None

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        order, self._order = os.pipe()
        null_device()  # for both processes: neither may open it once it is confined
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else both processes would write it
        gc.freeze()  # a collection would write to, and so copy, the pages that both share
        self.pid = os.fork()
        if not self.pid:
            self._become_worker(theirs, order)
        gc.unfreeze()
        theirs.close()
        os.close(order)
        self._answerer = Answerer(ours, self._session.requests)
        self._connection = ours
        self._watching = ours.fileno()
        self._signals.watch(self._watching, self._answer)
        return self

    def __exit__(self, *_: object) -> None:
        """End it without the summary, if it has not ended."""
        os.close(self._order)
        while self.poll() is None:
            self._signals.wait(1.0)
        if self._watching >= 0:
            self._stop_watching()
        self._connection.close()

    def wait_until_ready(self) -> int | None:
        """Answer requests until the worker is ready; return its status if it ended instead."""
        while not self._session.requests.is_worker_ready:
            if (status := self.poll()) is not None:
                return status
            # A signal that comes now is for the loop that follows.
            self._signals.wait_for_watched(0.1)
        return None

    def confine_broker(self) -> None:
        """Give up what this process does not need any more: after the command was started."""
        confine(BROKER)

    def poll(self) -> int | None:
        """Return None while it runs, then its exit status; TracerError if a signal ended it."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return None
            self._status = os.waitstatus_to_exitcode(status)
            if self._status < 0:
                name = signal.Signals(-self._status).name
                raise TracerError(
                    "go on", cause=f"{name} ended the process that reads the maps (pid {pid})"
                )
        return self._status

    def finish(self, *, silently: bool) -> int:
        """Let it show the last numbers, unless `silently`; wait for its end, return its status."""
        with suppress(BrokenPipeError):
            os.write(self._order, _FINISH_SILENTLY if silently else _FINISH)
        while (status := self.poll()) is None:
            self._signals.wait(1.0)
        return status

    def _answer(self) -> None:
        if not self._answerer.answer_one():
            self._stop_watching()
            if self.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)  # it breaks the protocol, or is about to end

    def _stop_watching(self) -> None:
        self._signals.unwatch(self._watching)
        self._watching = -1

    def _become_worker(self, connection: socket.socket, order: int) -> NoReturn:
        status = 1
        try:
            status = exit_status(lambda: self._run(connection, order))
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
        except BaseException:  # the worker must never continue as a second tracer
            traceback.print_exc()
        finally:
            os._exit(status)

    def _run(self, connection: socket.socket, order: int) -> int:
        # First of all: the programs see a thread's first system call and decide whether it counts.
        self._session.leave_out(os.getpid())
        parent = os.getppid()
        set_death_signal(signal.SIGKILL)
        _close_all_but(
            {0, 1, 2, order, connection.fileno(), null_device(), *self._descriptors}
            | self._session.map_descriptors
        )
        self._prepare()
        if self._session.by_kprobe:
            # To keep other threads off its CPU while it reads the maps (tracer.session).
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_RTPRIO, (1, 1))
        confine(WORKER, service_user(), reads_maps=self._session.check_access)
        self._session.let_answer(requests_over(connection))
        if os.getppid() != parent:
            os._exit(1)  # it ended before the signal was set
        return self._work(Orders(self._session, order))


def _close_all_but(kept: set[int]) -> None:
    first = 0
    for descriptor in sorted(kept):
        if first < descriptor:
            os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
