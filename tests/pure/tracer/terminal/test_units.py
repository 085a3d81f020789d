# SPDX-License-Identifier: MIT
"""Numbers for people."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.terminal import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ns"),
        (8.23e-7, "823 ns"),
        (9.996e-7, "1.00 µs"),
        (1.234e-5, "12.3 µs"),
        (9.9996e-4, "1.00 ms"),
        (0.05, "50.0 ms"),
        (1.5, "1.50 s"),
        (123.4, "123 s"),
        (4321.0, "4321 s"),
        (math.inf, "> 256 s"),
        (math.nan, "-"),
        (None, "-"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1536, "1.50 KiB"),
        (102400, "100 KiB"),
        (10**9, "954 MiB"),
        (2**50, "1.00 PiB"),
        (2**63, "8192 PiB"),
    ],
)
def test_size(number: int, text: str) -> None:
    assert units.size(number) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [(0.0, "0"), (0.5, "0.50"), (23.0, "23.0"), (999.4, "999"), (999.6, "1.00k"), (2.5e6, "2.50M")],
)
def test_rate(per_second: float, text: str) -> None:
    assert units.rate(per_second) == text


def test_number_and_uptime() -> None:
    assert units.number(1234567) == "1,234,567"
    assert units.uptime(3723.9) == "1:02:03"


@given(st.floats(1e-9, 256))
def test_a_duration_is_right_to_three_digits_and_fits_its_column(seconds: float) -> None:
    text = units.duration(seconds)
    value, unit = text.split()
    factor = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert float(value) * factor == pytest.approx(seconds, rel=0.0051, abs=0.0051e-9)
    assert len(text) <= 7


@given(st.integers(0, 2**59))
def test_a_size_is_right_to_three_digits_and_fits_its_column(number: int) -> None:
    text = units.size(number)
    value, unit = text.split()
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].index(unit)
    assert float(value) * factor == pytest.approx(number, rel=0.0052)
    assert re.fullmatch(r"[\d.]{1,4} \w{1,3}", text)
