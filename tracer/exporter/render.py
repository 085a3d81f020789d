# SPDX-License-Identifier: MIT
"""Families as text: Prometheus' text format 0.0.4 and OpenMetrics 1.0.

A scrape every few seconds over thousands of series must cost next to nothing, so what does not
change between scrapes is made once: each series is kept as a `%` template with its names, labels
and bucket bounds written out, and a scrape only fills numbers in, if they have changed at all.
(prometheus_client builds every line anew, 17 µs each.) The bounds `le` are written the same in both
formats, `1.0` and not `1`, or the series would change with the format that a Prometheus happens to
ask for.
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
"""The classic buckets' `le`, in seconds: the powers of two among the slots' bounds."""

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})
_OPENMETRICS_HELP_ESCAPES = _ESCAPES


class Format(Enum):
    """The two text formats; the value is the Content-Type."""

    PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    @property
    def end(self) -> str:
        """What closes an exposition."""
        return "# EOF\n" if self is Format.OPENMETRICS else ""


@dataclass(slots=True)
class _Written:
    """A series as it was written last."""

    template: str
    value: Value
    text: str


class Renderer:
    """Writes families in one format, and remembers the series that were written last."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._written: dict[str, dict[Labels, _Written]] = {}
        self._labels: dict[str, Labels] = {}

    def render(self, family: Family) -> str:
        """Write the family's head and all its lines; nothing if it has no sample."""
        return "".join(self.parts(family))

    def parts(self, family: Family) -> list[str]:
        """The same in pieces, since a page of a megabyte is better put together once."""
        if not family.samples:
            return []
        name, known = family.metric.name, {}
        if self._labels.get(name) == family.labels:
            known = self._written[name]
        self._labels[name] = family.labels
        # A fresh dictionary each time: what is kept of series that are gone goes too.
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
    """Whether both are written the same; of NaN, which equals nothing, never."""
    if isinstance(old, Aggregate) and isinstance(new, Aggregate):
        return old.sum_ns == new.sum_ns and old.slots == new.slots
    return type(old) is type(new) and old == new


def _head(metric: Metric, form: Format) -> str:
    name, kind, text = metric.name, metric.type, metric.help
    if form is Format.PROMETHEUS:
        shown = Type.GAUGE if kind is Type.INFO else kind
        return f"# HELP {name} {text.translate(_HELP_ESCAPES)}\n# TYPE {name} {shown.value}\n"
    # OpenMetrics names the family without the ending that its samples bear.
    name = name.removesuffix({Type.COUNTER: "_total", Type.INFO: "_info"}.get(kind, ""))
    unit = f"# UNIT {name} {metric.unit}\n" if metric.unit else ""
    return (
        f"# TYPE {name} {kind.value}\n{unit}"
        f"# HELP {name} {text.translate(_OPENMETRICS_HELP_ESCAPES)}\n"
    )


def _template(metric: Metric, names: Labels, values: Labels) -> str:
    """Write the lines of one series, with `%s` for each number that `_numbers` gives."""
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
    # The overflow slot comes right after the last bound: it is in +Inf alone. The count is the
    # slots' own, so that the two agree though the kernel goes on counting while it is read.
    total = counts[-1]
    return (*counts[::SLOTS_PER_OCTAVE], total, total, repr(value.sum_ns / 1e9))


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return repr(value) if abs(value) != float("inf") else "+Inf" if value > 0 else "-Inf"
