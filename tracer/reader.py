# SPDX-License-Identifier: MIT
"""Read the maps into a Snapshot, and write the settings into the maps.

Only this module and `tracer.reading` know what the values in the maps mean. The positions of their
fields come from bcc (`tracer.model.layout`).
"""

import platform
import time
from collections.abc import Iterable, Iterator
from threading import Lock

from tracer import __version__
from tracer.kernel.maps import sum_of_cpus
from tracer.loading.attachments import COPY
from tracer.loading.parent import Loaded
from tracer.loading.source import EVENTS, LOST_REASONS, NEW_SOCKET_CELLS
from tracer.model.layout import VALUE
from tracer.model.operations import (
    FUNCTIONS,
    OPERATIONS,
    PATHS,
    TRANSPORTS,
    operation_number,
    system_calls,
)
from tracer.model.snapshot import (
    NO_PORT_YET,
    OTHER,
    Aggregate,
    CallAtStart,
    InFlight,
    MapUse,
    ProbeStats,
    ProgramStats,
    Series,
    Snapshot,
    merge,
    minus,
)
from tracer.privileges.requests import Requests
from tracer.reading.cells import Cell, CellFields
from tracer.reading.connections import ConnectionReader
from tracer.reading.labels import Labels

__all__ = ["Reader"]

_CELLS = len(OPERATIONS) * len(TRANSPORTS)  # labelled cells of functions are numbered from there
_NEW = operation_number("new")
_FUNCTIONS = {function.name: function for function in FUNCTIONS}
_OPERATION_OF_CALL = {call.name: operation.name for operation, call in system_calls()}
_NUMBER_OF_IDLE_THREAD = (1 << 32) - 1  # MADE_BY_TRACER of bpf/in_flight.h


class Reader:
    """Reads the maps of one session, and writes those that the tracer sets.

    `label` is the extra label's name, or None; the cells of a value that has been silent for
    `silence_ns` are given back when room is scarce. `in_flight_at_start` becomes part of each
    snapshot. `requests` answers what only a privileged process can read. Several threads may call
    `read`.
    """

    in_flight_at_start: tuple[CallAtStart, ...] = ()

    def __init__(
        self, loaded: Loaded, label: str | None, silence_ns: int, requests: Requests
    ) -> None:
        self.requests = requests
        self._loaded, self._maps, self._label = loaded, loaded.maps, label
        self._labels = (
            Labels(self._maps, label, silence_ns, lambda: self.requests) if label else None
        )
        self._cell = CellFields(self._maps["cells"].layout.value)
        self._connections = (
            ConnectionReader(self._maps, by_pid=label == "pid") if "sockets" in self._maps else None
        )
        self._threads_added = 0
        self._lock = Lock()

    def read(self) -> Snapshot:
        """All numbers as of now.

        Durations are read before entries and returns, so there is no duration of a call that has
        not returned.
        """
        with self._lock:
            return self._read()

    def _read(self) -> Snapshot:
        labels, now_ns = self._labels, time.monotonic_ns()
        cells = {name: list(self._cells(name)) for name in ("cells", "function_cells")}
        labelled = list(labels.cells(now_ns)) if labels else []
        operations = [_operation_series(*cell) for cell in cells["cells"]]
        operations += [_operation_series(*cell) for cell in labelled if cell[0] < _CELLS]
        operations += self._new_sockets([cell for cell in labelled if cell[0] >= NEW_SOCKET_CELLS])
        in_flight = tuple(labels.in_flight()) if labels else ()
        operations += _series_without_a_return(in_flight, operations)
        functions = [self._function_series(*cell) for cell in cells["function_cells"]]
        functions += [
            self._function_series(index - _CELLS, value, aggregate)
            for index, value, aggregate in labelled
            if _CELLS <= index < NEW_SOCKET_CELLS
        ]
        probes = (*self._operation_probes(), *self._function_probes())
        events = dict(zip(EVENTS, (values[0] for values in self._sums("events")), strict=True))
        programs = tuple(self._programs())
        connections = self._connections.read(events["other_peer"]) if self._connections else None
        maps = tuple(self._map_use(events))
        if labels:
            labels.give_back(now_ns)
        return Snapshot(
            monotonic_ns=time.monotonic_ns(),
            operations=_merged([*operations, *_operations_in_the_kernel(functions)]),
            functions=_merged(functions),
            probes=probes,
            lost={reason: events[reason] for reason in LOST_REASONS}
            | {"probe_missed": _missed_runs(programs) + self._missed_returns()},
            maps=maps,
            programs=programs,
            version=__version__,
            kernel=platform.release(),
            label_name=self._label,
            in_flight_at_start=self.in_flight_at_start,
            in_flight=in_flight,
            other_label=events["other_label"],
            connections=connections,
        )

    def follow(self, pids: Iterable[int]) -> None:
        """Trace these processes; for programs compiled with a filter by process."""
        rows = self._maps["followed"]
        flags = rows.layout.value["is_followed"]
        found: dict[int, bytearray] = {}
        for pid in pids:
            index, column = divmod(pid, flags.length)
            found.setdefault(index, bytearray(flags.length))[column] = 1
        for index, row in found.items():
            key = rows.layout.key.pack(**{VALUE: index})
            rows.update(key, rows.layout.value.pack(is_followed=bytes(row)))

    def choose_cgroup(self, descriptor: int) -> None:
        """Trace the cgroup with this directory; for programs compiled with a filter by cgroup."""
        self._set_first("cgroups", descriptor)

    def set_listening(self, ports: Iterable[int]) -> None:
        """Sockets with these local ports are the service's; for programs that label by port."""
        ports_map = self._maps["listening"]
        one = ports_map.layout.value.pack(**{VALUE: 1})
        for port in ports:
            ports_map.update(ports_map.layout.key.pack(**{VALUE: port}), one)

    def arm(self) -> None:
        """Tell the programs that all probes are attached; they then count returns without entry."""
        self._set_first("armed", 1)

    def leave_out(self, pid: int) -> None:
        """Do not trace this process either; for programs compiled to leave out the tracer."""
        if "worker" in self._maps:
            self._set_first("worker", pid)

    def check_access(self) -> None:
        """Read a map; raises OSError if this process must not."""
        next(iter(self._maps["armed"].items()))

    def add_idle_thread(self, tid: int) -> None:
        """Add a thread that is in no traced call, unless the map of threads has it already."""
        threads = self._maps["threads"]
        self._threads_added += threads.insert(
            threads.layout.key.pack(**{VALUE: tid}),
            threads.layout.value.pack(number=_NUMBER_OF_IDLE_THREAD),
        )

    def known_threads(self) -> set[int]:
        """The ids of the threads that the programs know: each has entered a system call."""
        calls, threads = self._maps["calls"], self._maps["threads"]
        call, key = calls.layout.value, threads.layout.key
        found = {call.number("pid_tgid", value) & 0xFFFFFFFF for _, value in calls.items()}
        return found | {key.number(VALUE, tid) for tid, _ in threads.items()}

    def _set_first(self, name: str, value: int) -> None:
        layout = self._maps[name].layout
        self._maps[name].update(layout.key.pack(**{VALUE: 0}), layout.value.pack(**{VALUE: value}))

    def _sums(self, name: str) -> Iterator[memoryview]:
        """The values of a per-CPU array of structs of u64, in the order of their indices."""
        source = self._maps.get(name)
        if source is not None:
            for _, values in source.items():
                yield sum_of_cpus(values, source.field_size)

    def _cells(self, name: str) -> Iterator[Cell]:
        """Cells without a label: of all calls, or of those whose label value found no room."""
        for index, cell in enumerate(self._sums(name)):
            if cell[self._cell.count]:
                yield index, OTHER if self._label else None, self._cell.aggregate(cell)

    def _new_sockets(self, settled: list[Cell]) -> Iterator[Series]:
        """The calls of `new` that bpf/new_sockets.h settled, and those that it noted only.

        The noted ones are read last: each settled call was noted before.
        """
        if "noted_new" not in self._maps:
            return
        settled += [
            (NEW_SOCKET_CELLS + i, value, cell)
            for i, value, cell in self._cells("settled_new_other")
        ]
        noted = [(i, cell) for i, _, cell in self._cells("noted_new")]
        first = _NEW * len(TRANSPORTS)
        for index, value, aggregate in settled:
            yield _operation_series(first + index - NEW_SOCKET_CELLS, value, aggregate)
        for i, everything in noted:
            counted = merge([cell for j, _, cell in settled if j == NEW_SOCKET_CELLS + i])
            if everything.count > counted.count:
                left = minus(everything, counted)
                yield _operation_series(first + i, NO_PORT_YET, left)

    def _function_series(self, index: int, label: str | None, aggregate: Aggregate) -> Series:
        index, transport = divmod(index, len(TRANSPORTS))
        function, path = divmod(index, len(PATHS))
        name = self._loaded.functions[function]
        return Series(name, PATHS[path], TRANSPORTS[transport], label, aggregate)

    def _operation_probes(self) -> Iterator[ProbeStats]:
        for name, counts in zip(self._loaded.calls, self._probe_counts("probes"), strict=True):
            yield ProbeStats(
                name,
                _OPERATION_OF_CALL[name],
                self._loaded.plan.operations,
                name in self._loaded.attached,
                *counts,
            )

    def _function_probes(self) -> Iterator[ProbeStats]:
        loaded, mechanism = self._loaded, self._loaded.plan.functions or "none"
        for name, counts in zip(
            loaded.functions, self._probe_counts("function_probes"), strict=True
        ):
            function = _FUNCTIONS[name]
            operation = None if function.serves_user_too else function.operation
            yield ProbeStats(
                name, operation, mechanism, name in loaded.attached, *counts, path="kernel"
            )
        for name in loaded.absent:
            yield ProbeStats(name, None, mechanism, False, 0, 0, 0, path="kernel")

    def _probe_counts(self, name: str) -> Iterator[tuple[int, int, int]]:
        """Entries, returns and abandoned calls of each probe.

        One system call reads them all, and of each probe the CPUs' copies one right after another.
        Two system calls would not do: in between, a busy machine counts thousands of calls, and all
        of them would seem to be in flight. A call that enters on a CPU already read, and returns on
        one not read yet, has no entry; its entry is added here.
        """
        if name not in self._maps:
            return
        layout = self._maps[name].layout.value
        entered, returned, abandoned = (
            layout[field].words.start for field in ("entered", "returned", "abandoned")
        )
        for values in self._sums(name):
            ended = values[returned] + values[abandoned]
            yield max(values[entered], ended), values[returned], values[abandoned]

    def _programs(self) -> Iterator[ProgramStats]:
        for name, run_time_ns, runs, misses in self.requests.program_statistics():
            yield ProgramStats(name, run_time_ns / 1e9, runs, misses)

    def _missed_returns(self) -> int:
        return 0 if self._loaded.owner is None else self.requests.missed_returns()

    def _map_use(self, events: dict[str, int]) -> Iterator[MapUse]:
        """Entries of the maps that can be full. Arrays have room for all of their keys."""
        capacity = self._maps["threads"].capacity
        threads = events["thread_added"] - events["thread_removed"] + self._threads_added
        yield MapUse("threads", threads, capacity)
        if self._loaded.functions:
            used = events["function_thread_added"] - events["function_thread_removed"]
            yield MapUse("functions_of_thread", used, capacity)
        if self._labels:
            yield from self._labels.map_use()
        if self._connections:
            yield from self._connections.map_use()


def _missed_runs(programs: tuple[ProgramStats, ...]) -> int:
    """Without programs that have a copy: the copy sees the calls that the program misses."""
    names = {program.name for program in programs}
    return sum(
        program.misses
        for program in programs
        if program.name + COPY not in names and not program.name.endswith(COPY)
    )


def _operation_series(index: int, label: str | None, aggregate: Aggregate) -> Series:
    operation, transport = divmod(index, len(TRANSPORTS))
    return Series(OPERATIONS[operation].name, "user", TRANSPORTS[transport], label, aggregate)


def _series_without_a_return(
    in_flight: tuple[InFlight, ...], operations: list[Series]
) -> list[Series]:
    """A series of no calls for each of `in_flight` of which no call has returned yet."""
    known = {(s.name, s.transport, s.label) for s in operations}
    return [
        Series(one.operation, "user", one.transport, one.label, merge([]))
        for one in in_flight
        if (one.operation, one.transport, one.label) not in known
    ]


def _operations_in_the_kernel(functions: list[Series]) -> Iterator[Series]:
    """Functions that kernel code calls as operations, merged under the operations' names."""
    found: dict[tuple[str, str, str | None], list[Aggregate]] = {}
    for series in functions:
        operation = _FUNCTIONS[series.name].operation
        if operation is not None and series.path == "kernel":
            key = (operation, series.transport, series.label)
            found.setdefault(key, []).append(series.aggregate)
    for (operation, transport, label), aggregates in found.items():
        yield Series(operation, "kernel", transport, label, merge(aggregates))


def _merged(series: list[Series]) -> tuple[Series, ...]:
    """The series, those with equal keys added up.

    Two cells of the kernel have the same label text if a process is named "other", or a cgroup was
    made anew under its path.
    """
    found: dict[tuple[str, str, str, str | None], list[Aggregate]] = {}
    for one in series:
        key = (one.name, one.path, one.transport, one.label)
        found.setdefault(key, []).append(one.aggregate)
    return tuple(
        Series(*key, all_of_it[0] if len(all_of_it) == 1 else merge(all_of_it))
        for key, all_of_it in found.items()
    )
