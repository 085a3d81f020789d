# SPDX-License-Identifier: MIT
"""What was counted between two snapshots."""

from dataclasses import replace

from hypothesis import given

from tests.pure.tracer.snapshots import aggregate, series, snapshot, snapshots
from tracer.model.snapshot import Snapshot, difference, merge


def test_series_are_taken_off_one_by_one() -> None:
    old = snapshot(
        series("send", of=aggregate({1: 2, 3: 4}, 100, 10, {"EPIPE": 1, "EAGAIN": 2})),
        series("recv", of=aggregate({5: 1})),
    )
    new = snapshot(
        series("send", of=aggregate({1: 2, 3: 9}, 150, 17, {"EPIPE": 4, "EAGAIN": 2})),
        series("recv", of=aggregate({5: 1})),
        series("send", transport="udp", of=aggregate({7: 1})),
    )
    new = replace(new, lost={"start_map_full": 2, "return_without_entry": 3})
    between = difference(old, new)
    assert between.operations == (
        series("send", of=aggregate({3: 5}, 50, 7, {"EPIPE": 3})),
        series("send", transport="udp", of=aggregate({7: 1})),
    )
    assert between.lost == {"start_map_full": 2, "return_without_entry": 0}
    assert between.probes == new.probes
    assert between.monotonic_ns == new.monotonic_ns


@given(snapshots())
def test_the_difference_from_itself_is_empty(one: Snapshot) -> None:
    distinct = {(s.name, s.path, s.transport, s.label): s for s in (*one.operations,)}
    one = replace(one, operations=tuple(distinct.values()), functions=())
    between = difference(one, one)
    assert between.operations == ()
    assert not any(between.lost.values())


@given(snapshots())
def test_the_difference_from_an_empty_snapshot_is_everything(new: Snapshot) -> None:
    between = difference(snapshot(), new)
    everything = merge([s.aggregate for s in new.operations if s.aggregate.count])
    assert merge([s.aggregate for s in between.operations]) == everything
