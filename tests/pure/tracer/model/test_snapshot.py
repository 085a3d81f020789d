# SPDX-License-Identifier: MIT
"""What was counted between two snapshots."""

from dataclasses import replace

from hypothesis import given

from tests.pure.tracer.snapshots import aggregate, series, snapshot, snapshots
from tracer.model.snapshot import GIVEN_BACK, Snapshot, difference, merge


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


def test_the_difference_of_a_value_that_was_given_back_is_what_it_counted_since() -> None:
    old = snapshot(
        series(label="gone", of=aggregate({1: 10})),
        series(label="came back", of=aggregate({1: 20})),
        series(label=GIVEN_BACK, of=aggregate({1: 100})),
        label_name="comm",
    )
    new = snapshot(
        series(label="came back", of=aggregate({1: 3})),
        series(label=GIVEN_BACK, of=aggregate({1: 100 + 10 + 1 + 20})),
        label_name="comm",
    )
    assert difference(old, new).operations == (
        series(label="came back", of=aggregate({1: 3})),
        series(label=GIVEN_BACK, of=aggregate({1: 1})),
    )
