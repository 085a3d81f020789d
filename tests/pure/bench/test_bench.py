# SPDX-License-Identifier: MIT
"""The benchmarks' statistics and report: medians, intervals, order, tables, the picture."""

import random
from statistics import median
from xml.etree import ElementTree

import pytest

from tests.bench.picture import svg
from tests.bench.report import Bars, Machine, Section, Target, markdown, table
from tests.bench.statistic import Figure, in_turns, paired_ratio


@pytest.mark.parametrize(
    ("rounds", "interval"),
    # From the table of Conover, Practical Nonparametric Statistics: the k-th from either end.
    [(3, (1, 3)), (5, (1, 5)), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (15, (4, 12)), (20, (6, 15))],
)
def test_the_interval_follows_the_binomial_distribution(
    rounds: int, interval: tuple[int, int]
) -> None:
    values = list(range(1, rounds + 1))
    random.Random(23).shuffle(values)
    figure = Figure(tuple(values))
    assert figure.interval == interval
    assert figure.median == median(values)


def test_the_interval_contains_the_true_median_95_times_in_100() -> None:
    chance = random.Random(23)
    held = 0
    for _ in range(2000):
        low, high = Figure(tuple(chance.expovariate(1) for _ in range(15))).interval
        held += low <= 0.6931 <= high  # the median of that distribution is ln 2
    assert 1900 <= held <= 1960  # 96.5 %, which is the closest 15 values come to 95


def test_figures_are_compared_round_by_round() -> None:
    above, below = Figure((2.0, 30.0, 400.0)), Figure((1.0, 10.0, 100.0))
    assert paired_ratio(above, below).values == (2, 3, 4)
    assert above.less(below).values == (1, 20, 300)
    assert above.less(below).text() == "20 (1 to 300)"


def test_figures_with_unequal_numbers_of_rounds_are_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio(Figure((1.0, 2.0)), Figure((1.0,)))


def test_each_way_runs_once_per_round_and_they_take_turns_to_be_first() -> None:
    order: list[str] = []

    def way(name: str) -> str:
        order.append(name)
        return name.upper()

    results = in_turns({name: lambda name=name: way(name) for name in "abc"}, 4)
    assert "".join(order) == "abcbcacababc"
    assert results == {name: [name.upper()] * 4 for name in "abc"}


def test_the_report_says_whether_each_target_is_met() -> None:
    targets = [
        Target("speed", "≥ 1", "2", True),
        Target("cost", "≤ 1", "2", False),
        Target("taste", "good", "no tongue", None),
    ]
    text = markdown([Section("One", "Words.", targets)], Machine(), 15)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[2:] == [
        "| speed | ≥ 1 | 2 | met |",
        "| cost | ≤ 1 | 2 | **missed** |",
        "| taste | good | no tongue | not measured |",
    ]
    assert text.endswith("\n## One\n\nWords.\n")
    assert ", 15 alternating rounds" in text


def test_a_table_is_valid_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_picture_draws_bars_to_scale_and_marks_the_cut_ones() -> None:
    bars = [("<one>", 1.0, "1 ns"), ("this tracer", 2.0, "2 ns"), ("slow", 100.0, "100 ns")]
    root = ElementTree.fromstring(svg([Bars("A & B", bars)]))
    name = "{http://www.w3.org/2000/svg}"
    _, *drawn = root.findall(f"{name}rect")
    assert [float(one.get("width", "")) for one in drawn] == [50, 100, 400]
    assert [one.get("class") for one in drawn] == ["bar", "bar ours", "bar"]
    words = [one.text for one in root.findall(f"{name}text")]
    assert words == ["A & B", "<one>", "1 ns", "this tracer", "2 ns", "slow", "100 ns (cut)"]
