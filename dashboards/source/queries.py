# SPDX-License-Identifier: MIT
"""The boards' PromQL, built from the metrics' own definitions.

No query names a metric or a label by hand: a selector for a label that the metric does not have is
an error here, at generation, and not an empty graph on somebody's wall.
"""

from collections.abc import Mapping

from tracer.exporter.metrics import DURATION, ERRORS, Metric, Type

__all__ = [
    "DAILY_ERRNOS",
    "RATE",
    "WAITING",
    "average",
    "buckets",
    "failing",
    "matching",
    "per_second",
    "quantile",
    "select",
]

RATE = "$__rate_interval"

DAILY_ERRNOS = "EAGAIN|EINPROGRESS|EINTR|ERESTART.*"
"""What non-blocking sockets and signals return all day long; anything else is a failure."""

WAITING = "accept|recv|recvmsg|select"
"""Operations whose duration is mostly the peer's silence: slow is normal for them."""

_TARGET = {"job": '=~"$job"', "instance": '=~"$instance"'}
_CHOSEN = {"operation": '=~"$operation"', "path": '=~"$path"', "transport": '=~"$transport"'}


def select(metric: Metric, suffix: str = "", **matchers: str) -> str:
    """A selector of the metric's series that obeys the board's variables.

    `matchers` are label to operator and value, as in `errno='!="EAGAIN"'`; they replace the
    variable of the same label. Raises ValueError for a label that the metric does not have.
    """
    if unknown := set(matchers) - set(metric.labels):
        raise ValueError(f"{metric.name} has no label {', '.join(sorted(unknown))}")
    if bool(suffix) != (metric.type is Type.HISTOGRAM):
        raise ValueError(f"{metric.name}{suffix} is no series of a {metric.type.value}")
    chosen = {label: text for label, text in _CHOSEN.items() if label in metric.labels}
    return f"{metric.name}{suffix}{{{_text(_TARGET | chosen | matchers)}}}"


def _text(matchers: Mapping[str, str]) -> str:
    return ",".join(f"{label}{text}" for label, text in matchers.items())


def matching(value: str) -> str:
    """The matcher of a label that is one of `a|b|c`."""
    return f'=~"{value}"'


def per_second(metric: Metric, *by: str, suffix: str = "", **matchers: str) -> str:
    """A counter's rate, summed over all but `by`."""
    return f"sum{_by(by)} (rate({select(metric, suffix, **matchers)}[{RATE}]))"


def failing(*by: str, **matchers: str) -> str:
    """The share of calls that failed, 0 to 1, for those who made any."""
    fine_print = {"errno": f'!~"{DAILY_ERRNOS}"'}
    failures = per_second(ERRORS, *by, **fine_print, **matchers)
    calls = per_second(DURATION, *by, suffix="_count", **matchers)
    return f"({failures} or 0 * {calls}) / ({calls} > 0)"


def quantile(share: float, *by: str, metric: Metric = DURATION, **matchers: str) -> str:
    """The duration below which this share of the calls stayed, from the histogram."""
    inner = per_second(metric, *by, "le", suffix="_bucket", **matchers)
    return f"histogram_quantile({share}, {inner})"


def average(metric: Metric, *by: str, **matchers: str) -> str:
    """Mean duration."""
    total = per_second(metric, *by, suffix="_sum", **matchers)
    return f"{total} / ({per_second(metric, *by, suffix='_count', **matchers)} > 0)"


def buckets(metric: Metric, **matchers: str) -> str:
    """A heat map's rows."""
    return per_second(metric, "le", suffix="_bucket", **matchers)


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
