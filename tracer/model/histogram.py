# SPDX-License-Identifier: MIT
"""The histogram's slots: their bounds, and what can be said of a distribution kept in them.

Slot i holds durations in (2^((i-1)/8), 2^(i/8)] * 2^MIN_EXPONENT seconds, the buckets of a
Prometheus native histogram of schema 3 and of an OpenTelemetry exponential one of scale 3. Slot 0
holds all that is no longer than its bound; slot OVERFLOW all that is longer than the last bound.
The same numbers rule the kernel side (bpf/histogram.h), which gets them as macros.
"""

import math
from collections.abc import Sequence

__all__ = [
    "MAX_EXPONENT",
    "MIN_EXPONENT",
    "OVERFLOW",
    "SLOTS",
    "SLOTS_PER_OCTAVE",
    "UPPER_BOUNDS_SECONDS",
    "quantile_seconds",
]

SLOTS_PER_OCTAVE = 8
MIN_EXPONENT, MAX_EXPONENT = -24, 8  # 60 ns to 256 s
OVERFLOW = (MAX_EXPONENT - MIN_EXPONENT) * SLOTS_PER_OCTAVE + 1
SLOTS = OVERFLOW + 1

UPPER_BOUNDS_SECONDS = tuple(2.0 ** (MIN_EXPONENT + i / SLOTS_PER_OCTAVE) for i in range(OVERFLOW))
"""Inclusive upper bound of every slot but the overflow slot, in seconds."""


def quantile_seconds(slots: Sequence[int], quantile: float) -> float:
    """The duration below which the share `quantile` (0..1) of the calls lies, in seconds.

    Interpolates within the slot on a logarithmic scale, as Prometheus does in a native histogram
    (`histogram_quantile`); right to within half a slot, 4.5 %. NaN if there are no calls, infinite
    if the quantile lies in the overflow slot.
    """
    total = sum(slots)
    if not total:
        return float("nan")
    rank, below = quantile * total, 0
    for i, count in enumerate(slots):
        if count and below + count >= rank:
            if i == OVERFLOW:
                return float("inf")
            share = (rank - below) / count
            return math.exp2(MIN_EXPONENT + (i - 1 + share) / SLOTS_PER_OCTAVE)
        below += count
    return float("inf")
