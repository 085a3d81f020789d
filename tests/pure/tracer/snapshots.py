# SPDX-License-Identifier: MIT
"""Snapshots for tests: with given numbers, and random ones made by hypothesis."""

from collections.abc import Mapping

from hypothesis import strategies as st

from tracer.model.errnos import ERRNO_NAMES
from tracer.model.histogram import SLOTS
from tracer.model.operations import OPERATIONS, TRANSPORTS
from tracer.model.snapshot import Aggregate, MapUse, ProbeStats, ProgramStats, Series, Snapshot

NAMES = [operation.name for operation in OPERATIONS]
FUNCTIONS = ["kernel_recvmsg", "sock_recvmsg", "tcp_sendmsg", "sock_release"]


def aggregate(
    slots: Mapping[int, int],
    sum_ns: int = 0,
    moved: int = 0,
    errors: Mapping[str, int] | None = None,
) -> Aggregate:
    """The aggregate of the calls in these slots."""
    counts = tuple(slots.get(i, 0) for i in range(SLOTS))
    return Aggregate(sum(counts), sum_ns, moved, errors or {}, counts)


def series(
    name: str = "send",
    path: str = "user",
    transport: str = "tcp",
    label: str | None = None,
    of: Aggregate | None = None,
) -> Series:
    """A series; of one call by default."""
    return Series(name, path, transport, label, of or aggregate({100: 1}, 1000, 5))


def snapshot(
    *operations: Series,
    functions: tuple[Series, ...] = (),
    label_name: str | None = None,
    in_progress: int = 0,
    monotonic_ns: int = 1_000_000_000,
) -> Snapshot:
    """A snapshot of these operations, with one probe that has `in_progress` calls in flight."""
    return Snapshot(
        monotonic_ns=monotonic_ns,
        operations=operations,
        functions=functions,
        probes=(
            ProbeStats("recvfrom", "recv", "tracepoint", True, 23 + in_progress, 22, 1),
            ProbeStats("sendto", "send", "tracepoint", False, 0, 0, 0),
        ),
        lost={"start_map_full": 0, "return_without_entry": 3},
        maps=(MapUse("threads", 7, 16384),),
        programs=(ProgramStats("enter_recvfrom", 0.25, 23, 0),),
        version="0.1.0",
        kernel="6.18.0",
        label_name=label_name,
    )


_counts = st.integers(0, 2**63 - 1)
_texts = st.text(max_size=20) | st.sampled_from(
    [
        "",
        '"',
        "\\",
        "\\n",
        "\n",
        'a"b\\c\nd',
        "100%s",
        "\udcff",
        "\0",
        "other",
        "}",
        '{x="y"}',
        "\r",
        "\u2028",
    ]
)
_aggregates = st.builds(
    aggregate,
    st.dictionaries(st.integers(0, SLOTS - 1), st.integers(0, 2**40), max_size=8),
    _counts,
    _counts,
    st.dictionaries(st.sampled_from(ERRNO_NAMES), st.integers(1, 2**40), max_size=3),
)


def _series(names: list[str], labels: st.SearchStrategy[str | None]) -> st.SearchStrategy[Series]:
    return st.builds(
        Series,
        st.sampled_from(names),
        st.sampled_from(["user", "kernel"]),
        st.sampled_from(TRANSPORTS),
        labels,
        _aggregates,
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot, with labels. Cells may have the same label text, as real ones may."""
    label_name = draw(st.sampled_from([None, "comm", "pid", "cgroup", "port"]))
    labels = st.none() if label_name is None else _texts
    entries = st.integers(0, 2**40)
    return Snapshot(
        monotonic_ns=draw(entries),
        operations=tuple(draw(st.lists(_series(NAMES, labels), max_size=6))),
        functions=tuple(draw(st.lists(_series(FUNCTIONS, labels), max_size=4))),
        probes=tuple(
            ProbeStats(
                name,
                draw(st.sampled_from(NAMES)),
                draw(st.sampled_from(["tracepoint", "fentry"])),
                draw(st.booleans()),
                draw(entries),
                draw(entries),
                0,
            )
            for name in draw(st.lists(st.sampled_from(["sendto", "recvfrom", "read"]), unique=True))
        ),
        lost=draw(st.dictionaries(st.sampled_from(["start_map_full", "probe_missed"]), entries)),
        maps=tuple(
            MapUse(name, draw(entries), draw(entries))
            for name in draw(st.sets(st.sampled_from(["threads", "cells"])))
        ),
        programs=tuple(
            ProgramStats(name, draw(st.floats(0, 1e9)), draw(entries), 0)
            for name in draw(st.sets(st.sampled_from(["on_exec", "enter_read"])))
        ),
        version=draw(_texts),
        kernel=draw(_texts),
        label_name=label_name,
    )
