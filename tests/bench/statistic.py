# SPDX-License-Identifier: MIT
"""Rounds in turns, and what may be said of their results: medians, each with its interval."""

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
    """The median of some rounds, and the interval that holds the true one 95 times in 100.

    The interval lies between two of the values themselves, by the binomial distribution; it assumes
    nothing of how the values are spread. Fewer than six rounds cannot give it: then it is all of
    them.
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
        """Round by round, what is left when the other's is taken off."""
        return Figure(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))


def _values_outside(number: int) -> int:
    """How many values at each end are outside the median's interval."""
    outside = 0
    while 2 * _chance_of_fewer(outside + 2, number) <= 1 - _CONFIDENCE:
        outside += 1
    return outside


def _chance_of_fewer(heads: int, coins: int) -> float:
    """That fewer than so many values lie below the median is as likely as with so many coins."""
    return float(sum(comb(coins, k) for k in range(heads)) / 2**coins)


def paired_ratio(above: Figure, below: Figure) -> Figure:
    """Round by round: what drifts between rounds falls on both."""
    return Figure(tuple(a / b for a, b in zip(above.values, below.values, strict=True)))


def in_turns(ways: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Each way once a round, each round begun by another: no way is always first or last."""
    results: dict[str, list[Result]] = {name: [] for name in ways}
    names: Sequence[str] = list(ways)
    for number in range(rounds):
        start = number % len(names)
        for name in (*names[start:], *names[:start]):
            results[name].append(ways[name]())
    return results
