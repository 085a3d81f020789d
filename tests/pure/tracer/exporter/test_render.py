# SPDX-License-Identifier: MIT
"""Both text formats, read by prometheus_client's parsers, have the numbers of the snapshot."""

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from prometheus_client import Metric as Parsed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.pure.tracer.snapshots import aggregate, series, snapshot, snapshots
from tracer.exporter import render
from tracer.exporter.families import FAMILIES, Family, family
from tracer.exporter.metrics import Metric, Type
from tracer.exporter.render import BUCKET_BOUNDS, Format, Renderer
from tracer.model.histogram import UPPER_BOUNDS_SECONDS
from tracer.model.snapshot import Aggregate, Snapshot

FORMATS = pytest.mark.parametrize("form", list(Format))


def rendered(form: Format, shown: Snapshot, renderer: Renderer | None = None) -> str:
    writer = renderer or Renderer(form)
    return "".join(writer.render(family(metric, shown)) for metric in FAMILIES) + form.end


def parsed(form: Format, text: str) -> dict[str, Parsed]:
    parse = parse_openmetrics if form is Format.OPENMETRICS else parse_text
    return {found.name: found for found in parse(text)}


def lines(found: dict[str, Parsed]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    result = {}
    for metric in found.values():
        for sample in metric.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in result, "a series given twice makes Prometheus refuse the scrape"
            result[key] = sample.value
    return result


def expected(shown: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    result = {}
    for metric in FAMILIES:
        one = family(metric, shown)
        for values, value in one.samples.items():
            labels = dict(zip(one.labels, values, strict=True))
            for suffix, more, number in expected_lines(value):
                result[metric.name + suffix, frozenset({**labels, **more}.items())] = number
    return result


def expected_lines(value: int | float | Aggregate) -> Iterator[tuple[str, dict[str, str], float]]:
    if not isinstance(value, Aggregate):
        yield "", {}, value
        return
    for exponent in range(-24, 9):
        inside = sum(
            count
            for bound, count in zip(UPPER_BOUNDS_SECONDS, value.slots, strict=False)
            if bound <= 2.0**exponent
        )
        yield "_bucket", {"le": repr(2.0**exponent)}, inside
    yield "_bucket", {"le": "+Inf"}, sum(value.slots)
    yield "_count", {}, sum(value.slots)
    yield "_sum", {}, value.sum_ns / 1e9


@FORMATS
@given(shown=snapshots())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_a_parser_reads_back_the_numbers_of_the_snapshot(form: Format, shown: Snapshot) -> None:
    assert lines(parsed(form, rendered(form, shown))) == expected(shown)


@FORMATS
@given(first=snapshots(), second=snapshots())
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_an_earlier_scrape_does_not_change_a_later_one(
    form: Format, first: Snapshot, second: Snapshot
) -> None:
    renderer = Renderer(form)
    rendered(form, first, renderer)
    assert rendered(form, second, renderer) == rendered(form, second)


def test_templates_of_series_that_no_longer_exist_are_dropped() -> None:
    renderer = Renderer(Format.PROMETHEUS)
    for pid in range(50):
        shown = snapshot(series(label=str(pid)), label_name="pid")
        rendered(Format.PROMETHEUS, shown, renderer)
    durations = renderer._written["lunatik_socket_operation_duration_seconds"]
    assert list(durations) == [("send", "user", "tcp", "49")]


@pytest.mark.parametrize(
    "of",
    [
        # Only the sum differs, or only a slot: the kernel counts while it is read, so the two may
        # be of different moments.
        aggregate({100: 1}, 1001),
        aggregate({101: 1}, 1000),
        aggregate({100: 2}, 2000),
    ],
)
def test_only_changed_series_are_written_again(
    monkeypatch: pytest.MonkeyPatch, of: Aggregate
) -> None:
    renderer, written = Renderer(Format.PROMETHEUS), list[object]()
    still = series("recv")
    rendered(Format.PROMETHEUS, snapshot(series("send"), still), renderer)
    shown = snapshot(series("send", of=of), still)
    whole = rendered(Format.PROMETHEUS, shown)
    numbers = render._numbers
    monkeypatch.setattr(render, "_numbers", lambda value: written.append(value) or numbers(value))
    assert rendered(Format.PROMETHEUS, shown, renderer) == whole
    assert [value for value in written if isinstance(value, Aggregate)] == [of]


@FORMATS
@given(shown=snapshots())
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
def test_buckets_grow_and_the_last_is_the_count(form: Format, shown: Snapshot) -> None:
    for metric in parsed(form, rendered(form, shown)).values():
        if metric.type == "histogram":
            for buckets, count in histograms(metric):
                assert all(low <= high for low, high in pairwise(buckets))
                assert len(buckets) == 34
                assert buckets[-1] == count


def histograms(metric: Parsed) -> Iterator[tuple[list[float], float]]:
    by_series: dict[frozenset[tuple[str, str]], dict[str, list[float]]] = {}
    for sample in metric.samples:
        labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
        kind = sample.name.rpartition("_")[2]
        by_series.setdefault(labels, {}).setdefault(kind, []).append(sample.value)
    for values in by_series.values():
        yield values["bucket"], values["count"][0]


def test_a_duration_equal_to_the_bound_is_in_its_bucket() -> None:
    on_the_bound, above = 8 * 4, 8 * 4 + 1
    shown = snapshot(series(of=aggregate({on_the_bound: 1, above: 1, 257: 1})))
    text = rendered(Format.PROMETHEUS, shown)
    labels = 'operation="send",path="user",transport="tcp"'
    start = f"lunatik_socket_operation_duration_seconds_bucket{{{labels},le="
    assert f'{start}"9.5367431640625e-07"}} 1\n' in text
    assert f'{start}"1.9073486328125e-06"}} 2\n' in text
    assert f'{start}"256.0"}} 2\n' in text
    assert f'{start}"+Inf"}} 3\n' in text


def test_bounds_are_the_powers_of_two_in_seconds() -> None:
    assert [float(bound) for bound in BUCKET_BOUNDS] == [2.0**e for e in range(-24, 9)]


def test_openmetrics_names_types_and_units() -> None:
    found = parsed(Format.OPENMETRICS, rendered(Format.OPENMETRICS, snapshot()))
    assert found["lunatik_socket_operation_bytes"].type == "counter"
    assert found["lunatik_socket_operation_bytes"].unit == "bytes"
    assert found["lunatik_socket_operation_duration_seconds"].unit == "seconds"
    assert found["lunatik_socket_tracer"].type == "info"


@FORMATS
def test_help_is_escaped(form: Format) -> None:
    metric = Metric("x", Type.GAUGE, 'a \\ b\nc "d"', ())
    text = Renderer(form).render(Family(metric, (), {(): 1})) + form.end
    assert parsed(form, text)["x"].documentation == 'a \\ b\nc "d"'


@FORMATS
@pytest.mark.parametrize(
    ("value", "text"), [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (0.5, "0.5")]
)
def test_special_numbers_are_written_as_the_formats_require(
    form: Format, value: float, text: str
) -> None:
    shown = Renderer(form).render(Family(Metric("x", Type.GAUGE, "h", ()), (), {(): value}))
    assert shown.splitlines()[-1] == f"x {text}"
