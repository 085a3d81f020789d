# SPDX-License-Identifier: MIT
"""From the maps to a Snapshot: the one place that knows how the kernel side lays numbers out."""

import platform
import time
from collections.abc import Iterator

from tracer import __version__
from tracer.kernel.cgroups import cgroup_path
from tracer.kernel.kprobe_events import missed_returns
from tracer.kernel.maps import sum_of_cpus
from tracer.kernel.program_info import program_info
from tracer.loading.attachments import COPY
from tracer.loading.parent import Loaded
from tracer.loading.source import EVENTS, LOST_REASONS
from tracer.model.errnos import ERRNO_NAMES, ERRNO_SLOTS
from tracer.model.operations import FUNCTIONS, OPERATIONS, PATHS, TRANSPORTS, system_calls
from tracer.model.snapshot import (
    Aggregate,
    MapUse,
    ProbeStats,
    ProgramUse,
    Series,
    Snapshot,
    merge,
)

__all__ = ["read"]

_ERRORS_AT = 3  # struct cell: count, sum_ns, bytes; then errors, then slots
_SLOTS_AT = _ERRORS_AT + ERRNO_SLOTS
_NO_ERRORS = bytes(8 * ERRNO_SLOTS)
_CELLS = len(OPERATIONS) * len(TRANSPORTS)  # labelled cells of functions are numbered from there
_FUNCTIONS = {function.name: function for function in FUNCTIONS}
_OPERATION_OF_CALL = {call.name: operation.name for operation, call in system_calls()}


def read(loaded: Loaded, label: str | None, threads_added: int, returns_unseen: int) -> Snapshot:
    """All the numbers as of now.

    `label` is the extra label's name; `threads_added` how many entries of the map `threads` were
    made from this side, `returns_unseen` how many calls no probe will see returning. Returns are
    read before entries, and durations before returns: a call that comes between is seen as in
    progress, never as returned without having entered.
    """
    cells = {place: list(_cells(loaded, place, label)) for place in ("cells", "function_cells")}
    labelled = list(_labelled_cells(loaded, label)) if label else []
    operations = [_operation_series(*cell) for cell in cells["cells"]]
    operations += [_operation_series(*cell) for cell in labelled if cell[0] < _CELLS]
    functions = [_function_series(loaded, *cell) for cell in cells["function_cells"]]
    functions += [
        _function_series(loaded, index - _CELLS, value, aggregate)
        for index, value, aggregate in labelled
        if index >= _CELLS
    ]
    probes = (*_operation_probes(loaded), *_function_probes(loaded))
    events = dict(zip(EVENTS, (values[0] for values in _sums(loaded, "events")), strict=True))
    events["return_without_entry"] += returns_unseen
    programs = tuple(_programs(loaded))
    return Snapshot(
        monotonic_ns=time.monotonic_ns(),
        operations=(*operations, *_operations_in_the_kernel(functions)),
        functions=tuple(functions),
        probes=probes,
        lost={reason: events[reason] for reason in LOST_REASONS}
        | {"probe_missed": _missed_runs(programs) + missed_returns(loaded.owner)},
        maps=tuple(_maps(loaded, events, threads_added)),
        programs=programs,
        version=__version__,
        kernel=platform.release(),
        label_name=label,
    )


def _missed_runs(programs: tuple[ProgramUse, ...]) -> int:
    """Without those of programs that have a copy: what the one misses, the other sees."""
    names = {program.name for program in programs}
    return sum(
        program.misses
        for program in programs
        if program.name + COPY not in names and not program.name.endswith(COPY)
    )


def _sums(loaded: Loaded, name: str) -> Iterator[memoryview]:
    """The values of a per-CPU array of structs of u64, in the order of their indices."""
    source = loaded.maps.get(name)
    if source is not None:
        for _, values in source.items():
            yield sum_of_cpus(values, source.field_size)


_Cell = tuple[int, str | None, Aggregate]


def _cells(loaded: Loaded, name: str, label: str | None) -> Iterator[_Cell]:
    """Cells without a label of their own: all of them, or those that found no room for one."""
    for index, fields in enumerate(_sums(loaded, name)):
        if fields[0]:
            yield index, "other" if label else None, _aggregate(fields)


def _labelled_cells(loaded: Loaded, label: str) -> Iterator[_Cell]:
    source = loaded.maps["labelled_cells"]
    for key, values in source.items():
        fields = sum_of_cpus(values, source.field_size)
        if fields[0]:
            index = int.from_bytes(key[:4], "little")
            yield index, _label_text(label, key[8:]), _aggregate(fields)


def _aggregate(fields: memoryview) -> Aggregate:
    count, sum_ns, moved = fields[:_ERRORS_AT]
    errors = fields[_ERRORS_AT:_SLOTS_AT]
    named = {}
    if errors.tobytes() != _NO_ERRORS:  # a comparison of memory, where a loop would take longest
        named = {ERRNO_NAMES[i]: number for i, number in enumerate(errors) if number}
    return Aggregate(count, sum_ns, moved, named, tuple(fields[_SLOTS_AT:]))


def _operation_series(index: int, label: str | None, aggregate: Aggregate) -> Series:
    operation, transport = divmod(index, len(TRANSPORTS))
    return Series(OPERATIONS[operation].name, "user", TRANSPORTS[transport], label, aggregate)


def _function_series(loaded: Loaded, index: int, label: str | None, aggregate: Aggregate) -> Series:
    index, transport = divmod(index, len(TRANSPORTS))
    function, path = divmod(index, len(PATHS))
    name = loaded.functions[function]
    return Series(name, PATHS[path], TRANSPORTS[transport], label, aggregate)


def _operations_in_the_kernel(functions: list[Series]) -> Iterator[Series]:
    """The functions that code in the kernel calls as operations, under the operations' names."""
    found: dict[tuple[str, str, str | None], list[Aggregate]] = {}
    for series in functions:
        operation = _FUNCTIONS[series.name].operation
        if operation is not None and series.path == "kernel":
            key = (operation, series.transport, series.label)
            found.setdefault(key, []).append(series.aggregate)
    for (operation, transport, label), aggregates in found.items():
        yield Series(operation, "kernel", transport, label, merge(aggregates))


def _label_text(label: str, raw: bytes) -> str:
    if label == "comm":
        return raw.split(b"\0")[0].decode(errors="replace")
    number = int.from_bytes(raw[:8], "little")
    return cgroup_path(number) if label == "cgroup" else str(number)


def _operation_probes(loaded: Loaded) -> Iterator[ProbeStats]:
    for name, (entered, returned, abandoned) in zip(
        loaded.probes, _traffic(loaded, "probes"), strict=True
    ):
        yield ProbeStats(
            name=name,
            operation=_OPERATION_OF_CALL[name],
            mechanism=loaded.operations_by,
            attached=True,
            entries=entered,
            returns=returned,
            abandoned=abandoned,
        )


def _function_probes(loaded: Loaded) -> Iterator[ProbeStats]:
    for name, (entered, returned, abandoned) in zip(
        loaded.functions, _traffic(loaded, "function_probes"), strict=True
    ):
        function = _FUNCTIONS[name]
        yield ProbeStats(
            name=name,
            operation=None if function.serves_user_too else function.operation,
            mechanism=loaded.mechanism,
            attached=name not in loaded.failures,
            entries=entered,
            returns=returned,
            abandoned=abandoned,
            path="kernel",
        )
    for name in loaded.absent:
        yield ProbeStats(name, None, loaded.mechanism, False, 0, 0, 0, "kernel")


def _traffic(loaded: Loaded, name: str) -> Iterator[tuple[int, int, int]]:
    """Calls that entered, returned, were abandoned, of each probe. Returns are read first."""
    returned = [(values[1], values[2]) for values in _sums(loaded, name)]
    entered = [values[0] for values in _sums(loaded, name)]
    for number, others in zip(entered, returned, strict=True):
        yield number, *others


def _programs(loaded: Loaded) -> Iterator[ProgramUse]:
    for name, descriptor in loaded.programs.items():
        info = program_info(descriptor)
        yield ProgramUse(name, info.run_time_ns / 1e9, info.run_count, info.recursion_misses)


def _maps(loaded: Loaded, events: dict[str, int], threads_added: int) -> Iterator[MapUse]:
    """How full those maps are that can be full; the others have a place for everything."""
    threads = events["thread_added"] - events["thread_removed"] + threads_added
    yield MapUse("threads", threads, loaded.maps["threads"].capacity)
    if loaded.functions:
        used = events["function_thread_added"] - events["function_thread_removed"]
        yield MapUse("functions_of_thread", used, loaded.maps["threads"].capacity)
    if source := loaded.maps.get("labelled_cells"):
        yield MapUse("labelled_cells", sum(1 for _ in source.items()), source.capacity)
