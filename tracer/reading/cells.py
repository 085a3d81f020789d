# SPDX-License-Identifier: MIT
"""The counts of one cell of the kernel side (struct cell of bpf/aggregate.h) as an Aggregate."""

from tracer.model.errnos import ERRNO_NAMES
from tracer.model.layout import Layout
from tracer.model.snapshot import Aggregate

__all__ = ["Cell", "CellFields"]

Cell = tuple[int, str | None, Aggregate]
"""A cell's index, the text of its label value (None without a label), and its counts."""


class CellFields:
    """The positions of the fields of struct cell in a view of it as 64-bit numbers."""

    def __init__(self, layout: Layout) -> None:
        self.count = layout["count"].words.start
        self._sum_ns, self._bytes = layout["sum_ns"].words.start, layout["bytes"].words.start
        self._errors, self._slots = layout["errors"].words, layout["slots"].words
        self._no_errors = bytes(8 * layout["errors"].length)

    def aggregate(self, cell: memoryview) -> Aggregate:
        """The cell as an Aggregate."""
        errors = cell[self._errors]
        named = {}
        # Comparing bytes is fast; a loop over the errors would take most of the time of a scrape.
        if errors.tobytes() != self._no_errors:
            named = {ERRNO_NAMES[i]: number for i, number in enumerate(errors) if number}
        return Aggregate(
            cell[self.count],
            cell[self._sum_ns],
            cell[self._bytes],
            named,
            tuple(cell[self._slots]),
        )
