# SPDX-License-Identifier: MIT
"""The slots, in Python and in C (bpf/histogram.h), against independent exact arithmetic."""

import ctypes
import itertools
import math
import subprocess
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.model import histogram

BPF = Path(__file__).parents[4] / "bpf"
SHIM = """
typedef unsigned int u32;
typedef unsigned long long u64;
#define __always_inline inline
#define SLOT_MIN_EXPONENT (%d)
#define SLOT_OVERFLOW %d
#include "histogram.h"
u64 slot(u64 ns) { return slot_of(ns); }
"""


@pytest.fixture(scope="module")
def slot_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], int]:
    """bpf/histogram.h itself, compiled for user space."""
    folder = tmp_path_factory.mktemp("histogram")
    source, library = folder / "slot.c", folder / "slot.so"
    source.write_text(SHIM % (histogram.MIN_EXPONENT, histogram.OVERFLOW))
    command = ["gcc", "-O2", "-shared", "-fPIC", f"-I{BPF}", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=60)
    function = ctypes.CDLL(str(library)).slot
    function.argtypes, function.restype = [ctypes.c_uint64], ctypes.c_uint64
    return lambda ns: int(function(ns))


def bound_ns(slot: int) -> Decimal:
    """The slot's upper bound in nanoseconds, to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        exponent = Decimal(slot) / histogram.SLOTS_PER_OCTAVE + histogram.MIN_EXPONENT
        return Decimal(2) ** exponent * 10**9


BOUNDS_NS = [bound_ns(slot) for slot in range(histogram.OVERFLOW)]


def exact_slot(ns: int) -> int:
    """By search for the first bound that is not below the duration."""
    return next((i for i, bound in enumerate(BOUNDS_NS) if ns <= bound), histogram.OVERFLOW)


def test_both_sides_of_every_bound(slot_of: Callable[[int], int]) -> None:
    """Slots rise with the duration, so if all bounds are right, every duration is right."""
    for slot, bound in enumerate(BOUNDS_NS):
        below = int(bound)  # a bound that is a whole number belongs to its own slot
        assert slot_of(below) == slot, below
        assert slot_of(below + 1) == slot + 1, below + 1


def test_slot_never_falls(slot_of: Callable[[int], int]) -> None:
    ends = [0, 1, *(int(bound) for bound in BOUNDS_NS), 2**38 - 1, 2**38, 2**63, 2**64 - 1]
    slots = [slot_of(ns) for ns in ends]
    assert slots == sorted(slots)
    assert slots[0] == 0
    assert slots[-1] == histogram.OVERFLOW


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_any_duration(slot_of: Callable[[int], int], ns: int) -> None:
    assert slot_of(ns) == exact_slot(ns)


@given(st.integers(min_value=50, max_value=10**9))
def test_usual_durations(slot_of: Callable[[int], int], ns: int) -> None:
    assert slot_of(ns) == exact_slot(ns)


def test_bounds_are_those_of_a_native_histogram_of_schema_3() -> None:
    """Powers of 2^(1/8) of a second; one second itself is a bound, as are all powers of two."""
    bounds = histogram.UPPER_BOUNDS_SECONDS
    assert 1.0 in bounds
    assert 0.5 in bounds
    for lower, upper in itertools.pairwise(bounds):
        assert math.isclose(upper / lower, 2 ** (1 / 8), rel_tol=1e-12)


@given(
    st.lists(st.integers(min_value=60, max_value=2 * 10**11), min_size=1, max_size=200),
    st.floats(min_value=0, max_value=1),
)
def test_quantile_is_within_half_a_slot_of_the_true_one(
    durations: list[int], quantile: float
) -> None:
    slots = [0] * histogram.SLOTS
    for ns in durations:
        slots[exact_slot(ns)] += 1
    rank = max(1, math.ceil(quantile * len(durations)))
    true_seconds = sorted(durations)[rank - 1] / 1e9
    found = histogram.quantile_seconds(slots, quantile)
    assert 2 ** (-1 / 16) * 0.999999 <= found / true_seconds <= 2 ** (1 / 16) * 1.000001


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 1])
def test_calls_at_the_lower_end_of_a_slot_are_within_half_a_slot(quantile: float) -> None:
    slots = [0] * histogram.SLOTS
    slots[100] = 1000
    lowest = histogram.UPPER_BOUNDS_SECONDS[99]
    found = histogram.quantile_seconds(slots, quantile)
    assert found / lowest == pytest.approx(2 ** (1 / 16))


def test_quantile_of_nothing_and_of_the_overflow_slot() -> None:
    slots = [0] * histogram.SLOTS
    assert math.isnan(histogram.quantile_seconds(slots, 0.5))
    slots[histogram.OVERFLOW] = 1
    assert histogram.quantile_seconds(slots, 0.5) == math.inf
