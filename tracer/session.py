"""A tracing session: start it, take snapshots, stop it.

    with Session(Config(filter=Filter(pids=(4711,)))) as session:
        ...
        print(session.snapshot().total("recv").count)

The probes live as long as this process holds their descriptors, and no longer.
"""

import array
import importlib.util
import json
import os
import platform
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tracer import __version__
from tracer.blocked import threads_blocked_elsewhere
from tracer.capabilities import cgroup_directory, require_basics, tracefs_directory
from tracer.config import Config
from tracer.errnos import ERRNO_NAMES, ERRNO_SLOTS
from tracer.errors import CallError, PermissionRefused, ProgramError, TracerError, UnsupportedError
from tracer.loader import DESCRIPTORS_PER_MESSAGE
from tracer.maps import Map, sum_of_cpus
from tracer.operations import OPERATIONS, TRANSPORTS, system_calls
from tracer.program import EVENTS
from tracer.program_info import enable_run_statistics, program_info
from tracer.snapshot import Aggregate, MapUse, ProbeUse, ProgramUse, Series, Snapshot

__all__ = ["Session"]

_LOADER_TIMEOUT_SECONDS = 120  # under emulation a compilation takes many seconds
_ERRORS = {
    kind.__name__: kind for kind in (CallError, PermissionRefused, TracerError, UnsupportedError)
}
_OPERATION_OF_CALL = {call.name: operation.name for operation, call in system_calls()}
_HEAD = 3  # struct cell: count, sum_ns, bytes; then errors, then slots
_IDLE_CALL = bytes(24)  # struct call, all zero


class Session:
    """Traces from `start` to `stop`; also a context manager.

    `start` raises TracerError (or one of its kind) with a one-line message if the machine, the
    kernel or the user's rights do not allow it; nothing is left behind then.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._descriptors: list[int] = []
        self._maps: dict[str, Map] = {}
        self._programs: dict[str, int] = {}
        self._probes: tuple[str, ...] = ()
        self._unattached: dict[str, str] = {}
        self._last: Snapshot | None = None

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
        if self.config.measure_cost:
            self._descriptors.append(enable_run_statistics())
        description, descriptors = _run_loader(self.config)
        self._take_over(description, descriptors)
        self._mark_threads_outside_sockets()

    def stop(self) -> None:
        """Remove every probe. Safe to call twice."""
        for descriptor in reversed(self._descriptors):
            os.close(descriptor)
        self._descriptors = []

    @property
    def failures(self) -> dict[str, str]:
        """Probes that could not be attached, by name, with the reason."""
        return dict(self._unattached)

    def follow(self, pid: int) -> None:
        """Trace this process too; needs a session with a filter by process."""
        followed = self._maps["followed"]
        key = struct.pack("=I", pid // 64)
        [word] = [value for index, value in followed.items() if index == key]
        mask = int.from_bytes(word, "little") | 1 << pid % 64
        followed.update(key, mask.to_bytes(8, "little"))

    def snapshot(self) -> Snapshot:
        """All the numbers as of now. Costs a few system calls; never changes what is counted."""
        # Returns before entries (both in probe_counters, read after the cells): a call that comes
        # between is seen as in progress, never as returned without having entered.
        operations = tuple(self._operations())
        probes = tuple(self._probe_uses())
        events = self._events()
        programs = tuple(self._program_uses())
        return Snapshot(
            monotonic_ns=time.monotonic_ns(),
            operations=operations,
            functions=(),
            probes=probes,
            lost={
                reason: events[reason]
                for reason in EVENTS
                if reason not in ("thread_added", "thread_removed")
            }
            | {"probe_missed": sum(program.misses for program in programs)},
            maps=tuple(self._map_uses(events)),
            programs=programs,
            version=__version__,
            kernel=platform.release(),
            label_name=self.config.label,
        )

    def _take_over(self, description: dict[str, Any], descriptors: list[int]) -> None:
        self._descriptors += descriptors
        remaining = iter(descriptors)
        for name, shape in description["maps"].items():
            self._maps[name] = Map(next(remaining), **shape)
        for name in description["programs"]:
            self._programs[name] = next(remaining)
        self._probes = tuple(description["probes"])
        self._unattached = {
            failure["probe"] or failure["tracepoint"]: failure["message"]
            for failure in description["failures"]
        }
        for pid in self.config.filter.pids:
            self.follow(pid)
        if self.config.filter.cgroup:
            directory = os.open(cgroup_directory(self.config.filter.cgroup), os.O_RDONLY)
            try:
                self._maps["cgroups"].update(bytes(4), struct.pack("=I", directory))
            finally:
                os.close(directory)

    def _mark_threads_outside_sockets(self) -> None:
        """Let no thread that is blocked in, say, a read of a pipe look like a call lost on return."""
        for tid in threads_blocked_elsewhere():
            if self._maps["threads"].insert(struct.pack("=I", tid), _IDLE_CALL):
                self._marked = getattr(self, "_marked", 0) + 1

    def _operations(self) -> Iterator[Series]:
        label = "other" if self.config.label else None
        for key, values in self._maps["cells"].items():
            if aggregate := self._aggregate("cells", values):
                yield _series(int.from_bytes(key, "little"), label, aggregate)
        if "labelled_cells" in self._maps:
            for key, values in self._maps["labelled_cells"].items():
                if aggregate := self._aggregate("labelled_cells", values):
                    index = int.from_bytes(key[:4], "little")
                    yield _series(index, self._label(key[8:]), aggregate)

    def _aggregate(self, name: str, values: memoryview) -> Aggregate | None:
        fields = sum_of_cpus(values, self._maps[name].field_size)
        count, sum_ns, moved = fields[:_HEAD]
        if not count:
            return None
        errors = fields[_HEAD : _HEAD + ERRNO_SLOTS].tolist()
        return Aggregate(
            count=count,
            sum_ns=sum_ns,
            bytes=moved,
            errors={ERRNO_NAMES[i]: number for i, number in enumerate(errors) if number},
            slots=tuple(fields[_HEAD + ERRNO_SLOTS :]),
        )

    def _label(self, raw: bytes) -> str:
        if self.config.label == "comm":
            return raw.split(b"\0")[0].decode(errors="replace")
        number = int.from_bytes(raw[:8], "little")
        if self.config.label == "cgroup":
            return _cgroup_path(number)
        return str(number)

    def _probe_uses(self) -> Iterator[ProbeUse]:
        for i, (_, values) in enumerate(self._maps["probe_counters"].items()):
            fields = sum_of_cpus(values, self._maps["probe_counters"].field_size)
            name = self._probes[i]
            yield ProbeUse(
                name=name,
                operation=_OPERATION_OF_CALL[name],
                mechanism="tracepoint",
                attached=name not in self._unattached,
                entries=fields[0],
                returns=fields[1],
                abandoned=fields[2],
            )

    def _events(self) -> dict[str, int]:
        events = self._maps["events"]
        totals = [sum_of_cpus(values, events.field_size)[0] for _, values in events.items()]
        return dict(zip(EVENTS, totals, strict=True))

    def _map_uses(self, events: dict[str, int]) -> Iterator[MapUse]:
        yield MapUse(
            "threads",
            events["thread_added"] - events["thread_removed"],
            self._maps["threads"].capacity,
        )

    def _program_uses(self) -> Iterator[ProgramUse]:
        for name, descriptor in self._programs.items():
            info = program_info(descriptor)
            yield ProgramUse(name, info.run_time_ns / 1e9, info.run_count, info.recursion_misses)
