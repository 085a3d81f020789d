# SPDX-License-Identifier: MIT
"""Numbers for people: three digits and a fitting unit."""

import math

__all__ = ["duration", "number", "rate", "size", "uptime"]

NOTHING = "-"
_TIMES = ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (math.inf, 1.0, "s"))
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_THOUSANDS = ("", "k", "M", "G")


def duration(seconds: float | None) -> str:
    """`823 ns`, `12.3 µs`, `1.50 s`; `-` for None, `> 256 s` beyond the last bucket."""
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if math.isinf(seconds):
        return "> 256 s"
    for below, factor, unit in _TIMES:
        if seconds < below and (text := _three_digits(seconds * factor)) != "1000":
            return f"{text} {unit}"
    return f"{seconds:.0f} s"


def size(number_of_bytes: float) -> str:
    """`23 B`, `1.50 KiB`, `97.6 MiB`."""
    value, unit = float(number_of_bytes), 0
    while value >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{_three_digits(value) if unit else f'{value:.0f}'} {_SIZES[unit]}"


def rate(per_second: float) -> str:
    """`0.50`, `23.0`, `1.20k`; the column head says that it is per second."""
    value, unit = per_second, 0
    while value >= 999.5 and unit < len(_THOUSANDS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{_three_digits(value)}{_THOUSANDS[unit]}"


def number(count: int) -> str:
    """`1,234,567`: all digits, since counts are exact."""
    return f"{count:,}"


def uptime(seconds: float) -> str:
    """`0:01:23`."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    for below, decimals in ((9.995, 2), (99.95, 1)):
        if value < below:
            return f"{value:.{decimals}f}"
    return f"{value:.0f}"
