# SPDX-License-Identifier: MIT
"""For how long counts have not changed: which values of a label can be given back."""

from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

__all__ = ["Silence"]

T = TypeVar("T", bound=Hashable)


class Silence(Generic[T]):
    """Notes the counts of several things and when they last changed.

    A thing is silent once its count has not changed for `limit_ns`. Times are in ns, of any clock
    that does not go back. A change is noted by the first `note` after it, so a thing is taken for
    silent late rather than early.
    """

    def __init__(self, limit_ns: int) -> None:
        self._limit_ns = limit_ns
        self._seen: dict[T, tuple[int, int]] = {}

    def note(self, counts: Mapping[T, int], now_ns: int) -> None:
        """The counts as of now; things that are not in them are forgotten."""
        new: dict[T, tuple[int, int]] = {}
        for thing, count in counts.items():
            known = self._seen.get(thing)
            new[thing] = known if known and known[0] == count else (count, now_ns)
        self._seen = new

    def silent(self, now_ns: int) -> list[T]:
        """The silent things, the one that has been silent for longest first."""
        changes = {
            thing: changed_ns
            for thing, (_, changed_ns) in self._seen.items()
            if now_ns - changed_ns >= self._limit_ns
        }
        return sorted(changes, key=lambda thing: changes[thing])
