# SPDX-License-Identifier: MIT
"""Families as text: Prometheus' text format 0.0.4 and OpenMetrics 1.0.

A scrape every few seconds over thousands of series must be cheap, so the text that does not change
between scrapes is made once. Each series is kept as a `%` template with its name, labels and bucket
bounds; a scrape only fills in numbers, and only if they changed. (prometheus_client builds every
line at every scrape, 17 µs each.) Both formats write the bounds `le` in the same way, `1.0` and not
`1`; otherwise a series would change its labels when Prometheus asks for the other format.
"""

import math
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from tracer.exporter.families import Family, Value
from tracer.exporter.metrics import Labels, Metric, Type
from tracer.model.histogram import SLOTS_PER_OCTAVE, UPPER_BOUNDS_SECONDS
from tracer.model.snapshot import Aggregate

__all__ = ["BUCKET_BOUNDS", "Format", "Renderer"]

BUCKET_BOUNDS = tuple(map(repr, UPPER_BOUNDS_SECONDS[::SLOTS_PER_OCTAVE]))
"""`le` of the classic buckets, in seconds: the slot bounds that are powers of two."""

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_OPENMETRICS_HELP_ESCAPES = _ESCAPES


class Format(Enum):
    """The two text formats; the value is the Content-Type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    @property
    def end(self) -> str:
        """The last line of an exposition."""
        return "# EOF\n" if self is Format.OPENMETRICS else ""


@dataclass(slots=True)
class _Written:
    """A series as it was last written."""

    template: str
    value: Value
    text: str


class Renderer:
    """Writes families in one format; keeps the text of every series from the last scrape."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._written: dict[str, dict[Labels, _Written]] = {}
        self._labels: dict[str, Labels] = {}

    def render(self, family: Family) -> str:
        """Write the head and all lines of a family; an empty string if it has no sample."""
        return "".join(self.parts(family))

    def parts(self, family: Family) -> list[str]:
        """The same in parts, so that a page of a megabyte is joined only once."""
        if not family.samples:
            return []
        name, known = family.metric.name, {}
        if self._labels.get(name) == family.labels:
            known = self._written[name]
        self._labels[name] = family.labels
        # A new dictionary each time, so that series that no longer exist are dropped.
        fresh = self._written[name] = {}
        parts = [_head(family.metric, self._form)]
        for values, value in family.samples.items():
            one = known.get(values)
            if one is None:
                template = _template(family.metric, family.labels, values)
                one = _Written(template, value, template % _numbers(value))
            elif not _is_same(one.value, value):
                one.value, one.text = value, one.template % _numbers(value)
            fresh[values] = one
            parts.append(one.text)
        return parts


def _is_same(old: Value, new: Value) -> bool:
    """Whether both are written as the same text; false for NaN, which differs from itself."""
    if isinstance(old, Aggregate) and isinstance(new, Aggregate):
        return old.sum_ns == new.sum_ns and old.slots == new.slots
    return type(old) is type(new) and old == new


def _head(metric: Metric, form: Format) -> str:
    name, kind, text = metric.name, metric.type, metric.help
    if form is Format.PROMETHEUS:
        shown = Type.GAUGE if kind is Type.INFO else kind
        return f"# HELP {name} {text.translate(_HELP_ESCAPES)}\n# TYPE {name} {shown.value}\n"
    # In OpenMetrics the name of a family lacks the ending that its samples have.
    name = name.removesuffix({Type.COUNTER: "_total", Type.INFO: "_info"}.get(kind, ""))
    unit = f"# UNIT {name} {metric.unit}\n" if metric.unit else ""
    return (
        f"# TYPE {name} {kind.value}\n{unit}"
        f"# HELP {name} {text.translate(_OPENMETRICS_HELP_ESCAPES)}\n"
    )


def _template(metric: Metric, names: Labels, values: Labels) -> str:
    """The lines of one series, with `%s` for each number of `_numbers`."""
    pairs = [
        f'{name}="{value.translate(_ESCAPES)}"'.replace("%", "%%")
        for name, value in zip(names, values, strict=True)
    ]
    if metric.type is not Type.HISTOGRAM:
        return f"{metric.name}{_braces(pairs)} %s\n"
    bounds = [f'le="{bound}"' for bound in (*BUCKET_BOUNDS, "+Inf")]
    buckets = [f"{metric.name}_bucket{_braces([*pairs, bound])} %s\n" for bound in bounds]
    return (
        f"{''.join(buckets)}{metric.name}_count{_braces(pairs)} %s\n"
        f"{metric.name}_sum{_braces(pairs)} %s\n"
    )


def _braces(pairs: list[str]) -> str:
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _numbers(value: Value) -> tuple[int | float | str, ...]:
    if not isinstance(value, Aggregate):
        return (value if isinstance(value, int) else _float(value),)
    counts = list(accumulate(value.slots))
    # The overflow slot is above the last bound, so it is only in +Inf. The count is the sum of the
    # slots, not the kernel's own count: the kernel counts while it is read, and they could differ.
    total = counts[-1]
    return (*counts[::SLOTS_PER_OCTAVE], total, total, repr(value.sum_ns / 1e9))


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if abs(value) != float("inf") else "+Inf" if value > 0 else "-Inf"
