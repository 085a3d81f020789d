# SPDX-License-Identifier: MIT
"""How many calls, bytes and errors a piece of work added to the counts.

Many tests share one session, because compiling one takes a second, and many in the VM. So the
numbers are differences: `with counted(session) as counts: work()`, then `counts.calls("send")`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tracer.model.snapshot import Snapshot
from tracer.session import Session

__all__ = ["Counts", "counted"]

Key = tuple[str, str]  # operation, transport


@dataclass
class Counts:
    """The differences by (operation, transport); filled when the `with` block ends."""

    number: Counter[Key] = field(default_factory=Counter)
    moved: Counter[Key] = field(default_factory=Counter)
    failed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    slots: dict[Key, Counter[int]] = field(default_factory=dict)
    sum_ns: Counter[Key] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    in_progress: Counter[str] = field(default_factory=Counter)

    def calls(self, operation: str, transport: str | None = None) -> int:
        return sum(
            n for (o, t), n in self.number.items() if o == operation and transport in (None, t)
        )

    def bytes(self, operation: str, transport: str | None = None) -> int:
        return sum(
            n for (o, t), n in self.moved.items() if o == operation and transport in (None, t)
        )

    def errors(self, operation: str) -> dict[str, int]:
        """Failures by the name of the errno."""
        result: Counter[str] = Counter()
        for (name, _, error), number in self.failed.items():
            if name == operation:
                result[error] += number
        return dict(result)

    def all_calls(self) -> dict[str, int]:
        """Calls by operation, for every operation that was called."""
        result: Counter[str] = Counter()
        for (name, _), number in self.number.items():
            result[name] += number
        return dict(result)


@contextmanager
def counted(session: Session) -> Iterator[Counts]:
    """Count what the block does."""
    before = _collect(session.snapshot())
    result = Counts()
    yield result
    after = _collect(session.snapshot())
    for name in ("number", "moved", "failed", "sum_ns", "lost", "in_progress"):
        new, old = getattr(after, name), getattr(before, name)
        moves = {key: new[key] - old[key] for key in new if new[key] != old[key]}
        setattr(result, name, Counter(moves))
    for key, slots in after.slots.items():
        result.slots[key] = slots - before.slots.get(key, Counter())


def _collect(snapshot: Snapshot) -> Counts:
    counts = Counts(lost=Counter(snapshot.lost))
    for series in snapshot.operations:
        key, aggregate = (series.name, series.transport), series.aggregate
        counts.number[key] += aggregate.count
        counts.moved[key] += aggregate.bytes
        counts.sum_ns[key] += aggregate.sum_ns
        counts.slots.setdefault(key, Counter()).update(
            {i: n for i, n in enumerate(aggregate.slots) if n}
        )
        for name, number in aggregate.errors.items():
            counts.failed[(*key, name)] += number
    for (operation, _), number in snapshot.in_progress().items():
        counts.in_progress[operation] += number
    return counts
