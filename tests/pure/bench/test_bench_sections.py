# SPDX-License-Identifier: MIT
"""How the benchmark sections compute their figures and decide whether a target is met."""

import pytest

from tests.bench.function_cost import section
from tests.bench.function_rounds import WAYS, Block
from tests.bench.growth import counted, growth_target
from tests.bench.statistic import Figure

_TRACED_NS = {
    "empty programs, kprobe": 108,
    "empty programs, fentry": 104,
    "this tracer, operations alone": 110,
    "this tracer, kprobe": 160,
    "this tracer, fentry": 130,
    "bcc's funclatency": 150,
    "bcc's funclatency -F -l 4": 125,
    "bpftrace": 180,
}
_AT_FUNCTIONS = _TRACED_NS.keys() - {"this tracer, operations alone"}


def _blocks(*hosts: int) -> dict[str, list[Block]]:
    """One round per host, which slows everything down by this factor."""
    return {
        way: [Block(100 * slow, ns * slow, 7, 3 * (way in _AT_FUNCTIONS)) for slow in hosts]
        for way, ns in _TRACED_NS.items()
    }


def test_the_function_layer_is_compared_without_the_operation_layer() -> None:
    assert _TRACED_NS.keys() == WAYS.keys()
    made = section(_blocks(1, 1, 1), "6.1.0")
    figures = [(target.figure, target.met) for target in made.targets]
    # 130 - 110 of 150 - 100, and of 125 - 100
    assert figures == [("0.40 (0.40 to 0.40)", True), ("0.80 (0.80 to 0.80)", False)]
    assert "| this tracer, fentry | +20% (+20% to +20%) | 7 (7 to 7) | 3.0 |" in made.text
    assert "| this tracer, operations alone | +10% (+10% to +10%) |  |  |" in made.text


def test_a_slower_host_in_one_round_changes_no_ratio() -> None:
    assert section(_blocks(1, 1, 1), "6.1.0") == section(_blocks(1, 2, 1), "6.1.0")


@pytest.mark.parametrize(
    ("growths", "met"), [((-1.0, 0.0, 1.0), True), ((0.5, 1.0, 2.0), False), ((-3.0, -2.0), True)]
)
def test_the_growth_target_is_missed_only_if_the_growth_exceeds_the_noise(
    growths: tuple[float, ...], met: bool
) -> None:
    assert growth_target("cost", Figure(growths)).met is met


def test_only_sends_and_receives_of_a_page_are_counted() -> None:
    page = """
# TYPE lunatik_socket_operation_duration_seconds histogram
lunatik_socket_operation_duration_seconds_bucket{operation="send",transport="tcp",le="1"} 99
lunatik_socket_operation_duration_seconds_count{operation="send",path="user",transport="tcp"} 23
lunatik_socket_operation_duration_seconds_count{operation="recv",path="user",transport="tcp"} 7
lunatik_socket_operation_duration_seconds_count{operation="new",path="user",transport="tcp"} 1000
"""
    assert counted(page) == 30
