# SPDX-License-Identifier: MIT
"""A tracing session: start it, take snapshots, stop it.

    with Session(Config(filter=Filter(pids=(4711,)))) as session:
        ...
        print(session.snapshot().total("recv").count)

The probes live as long as this process holds their descriptors, and no longer.
"""

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from tracer.errors import PermissionRefused, UnsupportedError, UsageError
from tracer.kernel.blocked_threads import blocked_threads
from tracer.kernel.capabilities import in_initial_pid_namespace, kernel_preempts, require_basics
from tracer.kernel.cgroups import cgroup_directory
from tracer.kernel.kprobe_events import remove_leftovers, start_guardian
from tracer.kernel.mechanisms import prove, works
from tracer.kernel.program_info import enable_run_statistics
from tracer.loading.parent import Loaded, load
from tracer.model.config import Config
from tracer.model.snapshot import Snapshot
from tracer.reader import read

__all__ = ["NOT_IN_THIS_KERNEL", "Session"]

NOT_IN_THIS_KERNEL = "not in this kernel"
"""Why a function has no probe though nothing failed: kernels differ in what they have."""

_CALL = struct.Struct("=8xQI36xI4x")  # struct call of bpf/in_flight.h: start_ns, tid, number
_MADE_BY_TRACER = (1 << 32) - 1  # as there


class Session:
    """Traces from `start` to `stop`; also a context manager.

    `start` raises TracerError (or one of its kind) with a one-line message if the machine, the
    kernel or the user's rights do not allow it; nothing is left behind then.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._loaded: Loaded | None = None
        self._statistics: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._threads_added = 0
        self._returns_unseen = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Compile, load, attach. Returns with every probe in place."""
        require_basics()
        _require_processes(self.config.filter.pids)
        if self.config.filter.cgroup is not None:
            cgroup_directory(self.config.filter.cgroup)
        mechanism = _choose(self.config.mechanism)
        try:
            self._start(mechanism)
        except BaseException:
            self.stop()
            raise

    def _start(self, mechanism: str) -> None:
        inherited: tuple[int, ...] = ()
        if mechanism == "kprobe":
            remove_leftovers()
            self._guardian = start_guardian()
            # So that the guardian waits for the loader as well, should we be killed meanwhile.
            inherited = (_input_of(self._guardian),)
        self._loaded = load(_without_own_pid_in_namespace(self.config), mechanism, inherited)
        if self.config.measure_cost:
            self._statistics = _enable_statistics()
        self._set_filter()
        self._know_threads_already_blocked()
        self._loaded.maps["armed"].update(bytes(4), struct.pack("=I", 1))

    def stop(self) -> None:
        """Remove every probe. Safe to call twice."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
        if self._guardian is not None:
            self._guardian.communicate()
            self._guardian = None
        if self._statistics is not None:
            os.close(self._statistics)
            self._statistics = None

    def snapshot(self) -> Snapshot:
        """All the numbers as of now. Costs a few system calls; never changes what is counted."""
        loaded = self._running()
        by_kprobe = loaded.mechanism == "kprobe" or loaded.operations_by == "kprobe_multi"
        with _alone_on_this_cpu() if by_kprobe else contextlib.nullcontext():
            return read(loaded, self.config.label, self._threads_added, self._returns_unseen)

    @property
    def failures(self) -> dict[str, str]:
        """Probes that could not be attached, with the reason."""
        loaded = self._running()
        return dict.fromkeys(loaded.absent, NOT_IN_THIS_KERNEL) | loaded.failures

    def _running(self) -> Loaded:
        if self._loaded is None:
            raise RuntimeError("the session is not running: call start() first")
        return self._loaded

    def _set_filter(self) -> None:
        maps, chosen = self._running().maps, self.config.filter
        rows: dict[int, bytearray] = {}
        for pid in chosen.pids:
            rows.setdefault(pid // 64, bytearray(64))[pid % 64] = 1
        for index, row in rows.items():
            maps["followed"].update(struct.pack("=I", index), bytes(row))
        if chosen.cgroup is not None:
            directory = os.open(cgroup_directory(chosen.cgroup), os.O_RDONLY)
            try:
                maps["cgroups"].update(bytes(4), struct.pack("=I", directory))
            finally:
                os.close(directory)

    def _know_threads_already_blocked(self) -> None:
        """Those in calls that do not count are made known, as if they had been seen entering.

        For those in calls that count, the tracepoint sees the return, and that no entry was seen.
        kprobe_multi does not, and they are lost as of now (unless a filter that is the kernel
        side's to apply says which of them are).
        """
        chosen, threads = self.config.filter, self._running().maps["threads"]
        unseen = set()
        for tid, counts in blocked_threads(chosen.pids, self.config.operations):
            if counts:
                unseen.add(tid)
            else:
                idle = _CALL.pack(0, 0, _MADE_BY_TRACER)
                self._threads_added += threads.insert(struct.pack("=I", tid), idle)
        if self._running().operations_by == "tracepoint" or chosen.comms or chosen.cgroup:
            return
        self._returns_unseen = len(unseen - self._threads_seen_entering() - _own_threads())

    def _threads_seen_entering(self) -> set[int]:
        """That are in a call now, as the kernel side has it (bpf/in_flight.h)."""
        maps = self._running().maps
        found = set()
        for _, value in maps["calls"].items():
            start_ns, tid, _ = _CALL.unpack(value)
            if start_ns:
                found.add(tid)
        for key, value in maps["threads"].items():
            if _CALL.unpack(value)[0]:
                found.add(int.from_bytes(key, "little"))
        return found


@contextlib.contextmanager
def _alone_on_this_cpu() -> Iterator[None]:
    """Keep other threads off the CPU that this thread runs on, if we may.

    While a thread is inside a bpf(2) that reads a map, the kernel runs no program of a kprobe on
    its CPU. A kernel that preempts there would let other threads' calls go by unseen meanwhile.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def _own_threads() -> set[int]:
    return {int(task.name) for task in Path("/proc/self/task").iterdir()}


def _input_of(guardian: "subprocess.Popen[bytes]") -> int:
    assert guardian.stdin is not None
    return guardian.stdin.fileno()


def _without_own_pid_in_namespace(config: Config) -> Config:
    """Inside a PID namespace our number is another process's for the kernel side."""
    return config if in_initial_pid_namespace() else replace(config, tracer_pid=0)


def _enable_statistics() -> int:
    try:
        return enable_run_statistics()
    except PermissionError as error:
        raise PermissionRefused(
            "measure the cost of the programs",
            cause="the kernel refuses",
            errno=error.errno,
            hint="run as root (needs CAP_SYS_ADMIN)",
        ) from error


def _choose(mechanism: str) -> str:
    """The function layer's mechanism: what was asked for, or the best that works here.

    fentry is cheaper; where the kernel preempts, a kprobe sees calls that fentry does not.
    """
    if mechanism != "auto":
        prove(mechanism)
        return mechanism
    candidates = ("kprobe", "fentry") if kernel_preempts() else ("fentry", "kprobe")
    return next(filter(works, candidates), "tracepoint")


def _require_processes(pids: tuple[int, ...]) -> None:
    if pids and not in_initial_pid_namespace():
        raise UnsupportedError(
            "use --pid",
            cause="this is a PID namespace, and the kernel side sees the host's process ids",
            hint="run on the host (docker: --pid=host), or filter with --comm or --cgroup",
        )
    for pid in pids:
        process = _process_of(pid)
        if process is None:
            raise UsageError(
                "trace the process", str(pid), "no such process", hint="ps -e lists all processes"
            )
        if process != pid:
            raise UsageError(
                "trace the process",
                str(pid),
                f"it is a thread of process {process}",
                hint=f"use --pid {process}",
            )


def _process_of(pid: int) -> int | None:
    """The thread group of this number; None if there is no such process or thread."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return None
