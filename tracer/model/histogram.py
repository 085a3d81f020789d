# SPDX-License-Identifier: MIT
"""The histogram's slots: their bounds in seconds, and percentiles computed from them.

Slot i holds durations in (2^((i-1)/8), 2^(i/8)] * 2^MIN_EXPONENT seconds. These are the buckets of
a Prometheus native histogram of schema 3 and of an OpenTelemetry exponential histogram of scale 3.
Slot 0 holds every duration up to its bound, slot OVERFLOW every duration above the last bound. The
kernel side (bpf/histogram.h) gets the same numbers as macros.
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
    """The duration in seconds that the share `quantile` (0 to 1) of the calls does not exceed.

    The result is the geometric middle of the slot that holds this call: sqrt(2^(1/8)), or 4.5 %,
    from either bound, so it is within 4.5 % of the true duration. Interpolation within the slot
    would assume that its durations are spread evenly, and errs by up to a whole slot (9 %) when
    they are not. NaN if there are no calls; infinite if the call is in the overflow slot.
    """
    total = sum(slots)
    if not total:
        return float("nan")
    rank, below = quantile * total, 0
    for i, count in enumerate(slots):
        below += count
        if count and below >= rank:
            if i == OVERFLOW:
                return float("inf")
            return math.exp2(MIN_EXPONENT + (i - 0.5) / SLOTS_PER_OCTAVE)
    return float("inf")
