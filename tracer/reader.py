"""From the maps to a Snapshot: the one place that knows how the kernel side lays numbers out."""

import platform
import time
from collections.abc import Iterator

from tracer import __version__
from tracer.cgroups import cgroup_path
from tracer.errnos import ERRNO_NAMES, ERRNO_SLOTS
from tracer.hand_over import Loaded
from tracer.maps import sum_of_cpus
from tracer.operations import OPERATIONS, TRANSPORTS, system_calls
from tracer.program import EVENTS, LOST_REASONS
from tracer.programs import program_info
from tracer.snapshot import Aggregate, MapUse, ProbeUse, ProgramUse, Series, Snapshot

__all__ = ["read"]

_ERRORS_AT = 3  # struct cell: count, sum_ns, bytes; then errors, then slots
_SLOTS_AT = _ERRORS_AT + ERRNO_SLOTS
_OPERATION_OF_CALL = {call.name: operation.name for operation, call in system_calls()}


def read(loaded: Loaded, label: str | None, threads_added: int) -> Snapshot:
    """All the numbers as of now.

    `label` is the extra label's name; `threads_added` how many entries of the map `threads` were
    made from this side. Returns are read before entries, and durations before returns: a call that
    comes between is seen as in progress, never as returned without having entered.
    """
    operations = tuple(_operations(loaded, label))
    returned = [tuple(values) for values in _sums(loaded, "returns")]
    entered = [values[0] for values in _sums(loaded, "entries")]
    events = dict(zip(EVENTS, (values[0] for values in _sums(loaded, "events")), strict=True))
    programs = tuple(_programs(loaded))
    used = events["thread_added"] - events["thread_removed"] + threads_added
    return Snapshot(
        monotonic_ns=time.monotonic_ns(),
        operations=operations,
        functions=(),
        probes=tuple(
            ProbeUse(
                name=name,
                operation=_OPERATION_OF_CALL[name],
                mechanism="tracepoint",
                attached=name not in loaded.failures,
                entries=entered[i],
                returns=returned[i][0],
                abandoned=returned[i][1],
            )
            for i, name in enumerate(loaded.probes)
        ),
        lost={reason: events[reason] for reason in LOST_REASONS}
        | {"probe_missed": sum(program.misses for program in programs)},
        maps=(MapUse("threads", used, loaded.maps["threads"].capacity), *_label_map(loaded)),
        programs=programs,
        version=__version__,
        kernel=platform.release(),
        label_name=label,
    )


def _sums(loaded: Loaded, name: str) -> Iterator[memoryview]:
    """The values of a per-CPU array of structs of u64, in the order of their indices."""
    source = loaded.maps[name]
    for _, values in source.items():
        yield sum_of_cpus(values, source.field_size)


def _operations(loaded: Loaded, label: str | None) -> Iterator[Series]:
    """Cells with a label of their own, and those without: all of them, or what found no room."""
    for index, fields in enumerate(_sums(loaded, "cells")):
        if fields[0]:
            yield _series(index, "other" if label else None, fields)
    if label:
        source = loaded.maps["labelled_cells"]
        for key, values in source.items():
            fields = sum_of_cpus(values, source.field_size)
            if fields[0]:
                yield _series(
                    int.from_bytes(key[:4], "little"), _label_text(label, key[8:]), fields
                )


def _series(index: int, label: str | None, fields: memoryview) -> Series:
    operation, transport = divmod(index, len(TRANSPORTS))
    count, sum_ns, moved = fields[:_ERRORS_AT]
    errors = fields[_ERRORS_AT:_SLOTS_AT]
    return Series(
        name=OPERATIONS[operation].name,
        path="user",
        transport=TRANSPORTS[transport],
        label=label,
        aggregate=Aggregate(
            count=count,
            sum_ns=sum_ns,
            bytes=moved,
            errors={ERRNO_NAMES[i]: number for i, number in enumerate(errors) if number},
            slots=tuple(fields[_SLOTS_AT:]),
        ),
    )


def _label_text(label: str, raw: bytes) -> str:
    if label == "comm":
        return raw.split(b"\0")[0].decode(errors="replace")
    number = int.from_bytes(raw[:8], "little")
    return cgroup_path(number) if label == "cgroup" else str(number)


def _programs(loaded: Loaded) -> Iterator[ProgramUse]:
    for name, descriptor in loaded.programs.items():
        info = program_info(descriptor)
        yield ProgramUse(name, info.run_time_ns / 1e9, info.run_count, info.recursion_misses)


def _label_map(loaded: Loaded) -> Iterator[MapUse]:
    if source := loaded.maps.get("labelled_cells"):
        yield MapUse("labelled_cells", sum(1 for _ in source.items()), source.capacity)
