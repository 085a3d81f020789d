# SPDX-License-Identifier: MIT
"""A tracing session: start it, take snapshots, stop it.

    with Session(Config(filter=Filter(pids=(4711,)))) as session:
        ...
        print(session.snapshot().total("recv").count)

The probes exist as long as this process holds their descriptors.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from tracer.errors import PermissionRefused, UnsupportedError, UsageError
from tracer.kernel.blocked_threads import calls_at_start
from tracer.kernel.capabilities import in_initial_pid_namespace, require_basics
from tracer.kernel.cgroups import cgroup_directory, cgroup_of_thread
from tracer.kernel.kprobe_events import remove_leftovers, start_guardian
from tracer.kernel.listeners import listening_ports
from tracer.kernel.program_info import enable_run_statistics
from tracer.loading.parent import Loaded, load, program_for
from tracer.model.config import Config
from tracer.model.snapshot import CallAtStart, Snapshot
from tracer.model.thread_names import matcher
from tracer.reader import Reader

__all__ = ["NOT_IN_THIS_KERNEL", "Session"]

NOT_IN_THIS_KERNEL = "not in this kernel"
"""Reason of a function without a probe that this kernel does not have."""


class Session:
    """Traces from `start` to `stop`; also a context manager.

    `start` raises TracerError if the machine, the kernel or the user's rights do not allow tracing;
    it then removes all that it has loaded.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._loaded: Loaded | None = None
        self._statistics: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None
        self._reader: Reader | None = None
        self._cgroup: Path | None = None
        self._cgroup_id = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Compile, load and attach. When it returns, every probe is attached."""
        require_basics()
        _require_processes(self.config.filter.pids)
        if self.config.filter.cgroup is not None:
            self._cgroup = cgroup_directory(self.config.filter.cgroup)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        program = program_for(_without_own_pid_in_namespace(self.config))
        inherited: tuple[int, ...] = ()
        if program.plan.functions == "kprobe":
            remove_leftovers()
            self._guardian = start_guardian()
            # So that the guardian waits for the loader too, if this process is killed meanwhile.
            inherited = (_input_of(self._guardian),)
        self._loaded = load(program, inherited)
        silence_ns = round(self.config.label_silence_seconds * 1e9)
        self._reader = Reader(self._loaded, self.config.label, silence_ns)
        if self.config.measure_cost:
            self._statistics = _enable_statistics()
        self._set_filter(self._reader)
        self._reader.in_flight_at_start = tuple(self._calls_in_flight(self._reader))
        self._reader.arm()

    def stop(self) -> None:
        """Remove every probe. Safe to call twice."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = self._reader = None
        if self._guardian is not None:
            self._guardian.communicate()
            self._guardian = None
        if self._statistics is not None:
            os.close(self._statistics)
            self._statistics = None

    def snapshot(self) -> Snapshot:
        """All numbers as of now. Takes some system calls; does not change what is counted.

        Gives back the cells of label values that have been silent, if room for more is scarce.
        """
        loaded = self._running()
        assert self._reader is not None
        self._follow_cgroup(self._reader)
        by_kprobe = loaded.plan.functions == "kprobe" or loaded.plan.operations == "kprobe_multi"
        with _alone_on_this_cpu() if by_kprobe else contextlib.nullcontext():
            return self._reader.read()

    @property
    def failures(self) -> dict[str, str]:
        """Functions without a probe, and why."""
        loaded = self._running()
        return dict.fromkeys(loaded.absent, NOT_IN_THIS_KERNEL) | loaded.failures

    def _running(self) -> Loaded:
        if self._loaded is None:
            raise RuntimeError("the session is not running: call start() first")
        return self._loaded

    def _set_filter(self, reader: Reader) -> None:
        chosen = self.config.filter
        if chosen.pids:
            reader.follow(chosen.pids)
        self._follow_cgroup(reader)
        if self.config.label == "port":
            reader.set_listening(listening_ports())

    def _follow_cgroup(self, reader: Reader) -> None:
        """Trace the cgroup that has the path of the filter now; the last one while none has it.

        When a service restarts, its cgroup is removed and made again under the same path.
        """
        if self._cgroup is None:
            return
        try:
            directory = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            number = os.fstat(directory).st_ino
            if number != self._cgroup_id:
                reader.choose_cgroup(directory)
                self._cgroup_id = number
        finally:
            os.close(directory)

    def _calls_in_flight(self, reader: Reader) -> Iterator[CallAtStart]:
        """Yield the calls that entered before the probes were attached, and would have counted.

        Makes their threads known, as if the call had been seen to enter and did not count. So its
        return is no lost call. A thread that the programs know already has entered another call.
        """
        blocked = list(calls_at_start(self.config.filter.pids, self.config.operations))
        known = reader.known_threads()
        matches = matcher(self.config.filter.comms)
        for call, counts in blocked:
            if call.tid not in known:
                reader.add_idle_thread(call.tid)
                if counts and self._is_traced(call, matches):
                    yield call

    def _is_traced(self, call: CallAtStart, matches: Callable[[bytes], bool]) -> bool:
        """Whether the call passes the filters; those by process were applied before."""
        chosen = self.config.filter
        if call.pid == self.config.tracer_pid:
            return False
        if chosen.comms and not matches(call.comm.encode()):
            return False
        if chosen.cgroup is None:
            return True
        try:
            own = cgroup_of_thread(call.pid, call.tid)
        except OSError:  # the thread has ended
            return False
        return own.is_relative_to(cgroup_directory(chosen.cgroup))


@contextlib.contextmanager
def _alone_on_this_cpu() -> Iterator[None]:
    """Keep other threads off the CPU of this thread, if the user has the right to.

    While a thread reads a map by bpf(2), the kernel runs no kprobe programs on its CPU. If another
    thread preempted it there, the calls of that thread would not be counted.
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


def _input_of(guardian: "subprocess.Popen[bytes]") -> int:
    assert guardian.stdin is not None
    return guardian.stdin.fileno()


def _without_own_pid_in_namespace(config: Config) -> Config:
    """In a PID namespace, our pid is a different process in the numbering that programs see."""
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
    """The thread group id of this process or thread; None if it does not exist."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("Tgid:"):
                return int(line.split()[1])
    return None
