# SPDX-License-Identifier: MIT
"""The boards' PromQL, built from the definitions of the metrics.

No query spells out the name of a metric or label. A selector for a label that the metric does not
have raises an error when the boards are generated, instead of making an empty graph.
"""

from collections.abc import Mapping

from tracer.exporter.metrics import DURATION, ERRORS, Metric, Type
from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.operations import WAITING_OPERATIONS

__all__ = [
    "EXPECTED",
    "RATE",
    "WAITING",
    "average",
    "buckets",
    "failing",
    "failures",
    "matching",
    "per_second",
    "quantile",
    "select",
]

RATE = "$__rate_interval"

EXPECTED = "|".join(EXPECTED_ERRNOS)
"""The errnos that are no failures, as a regular expression."""

WAITING = "|".join(WAITING_OPERATIONS)
"""The operations that wait for a peer by design, as a regular expression."""

# glibc asks nscd at every name look-up. Where nscd does not run, it finds no socket file: normal.
_NO_SOCKET_FILE = {"operation": '="connect"', "transport": '="unix"', "errno": '="ENOENT"'}

_TARGET = {"job": '=~"$job"', "instance": '=~"$instance"'}
_CHOSEN = {"operation": '=~"$operation"', "path": '=~"$path"', "transport": '=~"$transport"'}


def select(metric: Metric, suffix: str = "", **matchers: str) -> str:
    """A selector of the metric's series, limited by the board's variables.

    `matchers` map a label to operator and value, as in `errno='!="EAGAIN"'`; they replace the
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
    """A matcher for a label that is one of `a|b|c`."""
    return f'=~"{value}"'


def per_second(metric: Metric, *by: str, suffix: str = "", **matchers: str) -> str:
    """A counter's rate per second, summed over all labels but `by`."""
    return f"sum{_by(by)} (rate({select(metric, suffix, **matchers)}[{RATE}]))"


def failures(*by: str, **matchers: str) -> str:
    """Failed calls per second, without the errnos that are no failures."""
    failed = select(ERRORS, **{"errno": f'!~"{EXPECTED}"', **matchers})
    # `unless` matches all labels, so this side needs no variables of the board.
    expected = f"{ERRORS.name}{{{_text(_NO_SOCKET_FILE)}}}"
    return f"sum{_by(by)} (rate({failed}[{RATE}]) unless rate({expected}[{RATE}]))"


def failing(*by: str, **matchers: str) -> str:
    """The share of calls that failed, 0 to 1; no value where no call was made."""
    failed = failures(*by, **matchers)
    calls = per_second(DURATION, *by, suffix="_count", **matchers)
    return f"({failed} or 0 * {calls}) / ({calls} > 0)"


def quantile(share: float, *by: str, metric: Metric = DURATION, **matchers: str) -> str:
    """The duration that this share of the calls did not exceed, from the histogram's buckets."""
    inner = per_second(metric, *by, "le", suffix="_bucket", **matchers)
    return f"histogram_quantile({share}, {inner})"


def average(metric: Metric, *by: str, **matchers: str) -> str:
    """Mean duration in seconds."""
    total = per_second(metric, *by, suffix="_sum", **matchers)
    return f"{total} / ({per_second(metric, *by, suffix='_count', **matchers)} > 0)"


def buckets(metric: Metric, **matchers: str) -> str:
    """The rows of a heat map."""
    return per_second(metric, "le", suffix="_bucket", **matchers)


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
