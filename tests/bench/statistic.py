# SPDX-License-Identifier: MIT
"""Rounds in alternation, and the statistics of their results: medians with intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import TypeVar

__all__ = ["Figure", "in_turns", "paired_ratio"]

_CONFIDENCE = 0.95

Result = TypeVar("Result")


@dataclass(frozen=True)
class Figure:
    """The median of some rounds, with its 95 % confidence interval.

    The ends of the interval are two of the values, chosen by the binomial distribution (the sign
    test), so no distribution of the values is assumed. With fewer than six rounds there is no such
    interval, and the whole range of the values is given.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def interval(self) -> tuple[float, float]:
        ordered = sorted(self.values)
        outside = _values_outside(len(ordered))
        return ordered[outside], ordered[-1 - outside]

    def text(self, form: str = ",.0f") -> str:
        low, high = self.interval
        return f"{self.median:{form}} ({low:{form}} to {high:{form}})"

    def less(self, other: "Figure") -> "Figure":
        """The differences to the other figure, round by round."""
        return Figure(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))


def _values_outside(number: int) -> int:
    """The number of values at each end that lie outside the median's interval."""
    outside = 0
    while 2 * _chance_of_fewer(outside + 2, number) <= 1 - _CONFIDENCE:
        outside += 1
    return outside


def _chance_of_fewer(heads: int, coins: int) -> float:
    """The probability of fewer than this many heads: each value is below the median or not."""
    return float(sum(comb(coins, k) for k in range(heads)) / 2**coins)


def paired_ratio(above: Figure, below: Figure) -> Figure:
    """The ratios round by round, so that a drift between rounds affects both sides alike."""
    return Figure(tuple(a / b for a, b in zip(above.values, below.values, strict=True)))


def in_turns(ways: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Run each way once per round; each round starts with the next one, so none is always first."""
    results: dict[str, list[Result]] = {name: [] for name in ways}
    names: Sequence[str] = list(ways)
    for number in range(rounds):
        start = number % len(names)
        for name in (*names[start:], *names[:start]):
            results[name].append(ways[name]())
    return results
