# SPDX-License-Identifier: MIT
"""The samples of each metric for a snapshot, and which series exist from the start."""

import shutil
import subprocess
from dataclasses import replace

from tests.pure.tracer.snapshots import aggregate, series, snapshot
from tracer.exporter import metrics
from tracer.exporter.families import FAMILIES, family
from tracer.exporter.metrics import METRICS, Metric, Type
from tracer.exporter.render import Format, Renderer
from tracer.model.operations import OPERATIONS
from tracer.model.snapshot import GIVEN_BACK, Aggregate, InFlight, Snapshot


def samples(metric: Metric, shown: Snapshot) -> dict[tuple[str, ...], object]:
    return dict(family(metric, shown).samples)


def test_every_metric_is_made_from_a_snapshot_or_by_the_scrape() -> None:
    made_by_the_scrape = {metrics.SCRAPE_DURATION, metrics.SCRAPE_ERRORS, metrics.REFUSALS}
    assert set(METRICS) == set(FAMILIES) | made_by_the_scrape
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    module_level = {value for value in vars(metrics).values() if isinstance(value, Metric)}
    assert module_level == set(METRICS)


def test_names_end_in_their_unit_and_their_type() -> None:
    for metric in METRICS:
        assert metric.name.startswith("lunatik_socket_")
        assert metric.name.endswith("_total") == (metric.type is Type.COUNTER)
        stem = metric.name.removesuffix("_total")
        assert stem.endswith(("_seconds", "_bytes")) == bool(metric.unit)
        assert stem.endswith(metric.unit)


def test_promtool_finds_no_problem() -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    shown = snapshot(
        series(of=aggregate({9: 23}, 5, 6, {"EPIPE": 2})), functions=(series("tcp_sendmsg"),)
    )
    renderer = Renderer(Format.PROMETHEUS)
    text = "".join(renderer.render(family(metric, shown)) for metric in FAMILIES)
    done = subprocess.run(
        [promtool, "check", "metrics"],
        check=False,
        input=text,
        text=True,
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_operation_s_three_metrics() -> None:
    shown = snapshot(series(of=aggregate({100: 23}, 46, 7, {"EPIPE": 2, "EAGAIN": 3})))
    key = ("send", "user", "tcp")
    duration = samples(metrics.DURATION, shown)[key]
    assert isinstance(duration, Aggregate)
    assert duration.count == 23
    assert samples(metrics.BYTES, shown)[key] == 7
    errors = samples(metrics.ERRORS, shown)
    assert errors[(*key, "EPIPE")] == 2
    assert errors[(*key, "EAGAIN")] == 3


def test_the_documented_calls_are_zero_from_the_start() -> None:
    empty = snapshot()
    durations = samples(metrics.DURATION, empty)
    assert {key[0] for key in durations} == {operation.name for operation in OPERATIONS}
    assert all(isinstance(v, Aggregate) and v.count == 0 for v in durations.values())
    assert len(durations) == 28
    assert ("send", "user", "udp") in durations
    assert ("select", "user", "other") in durations
    assert ("accept", "user", "udp") not in durations
    assert ("send", "user", "unix") not in durations
    assert samples(metrics.ERRORS, empty)["connect", "user", "tcp", "ECONNREFUSED"] == 0
    assert samples(metrics.BYTES, empty)["recvmsg", "user", "udp"] == 0


def test_only_operations_that_move_bytes_have_a_byte_counter() -> None:
    shown = snapshot(series("bind", transport="unix"), series("send", transport="unix"))
    keys = set(samples(metrics.BYTES, shown))
    assert ("send", "user", "unix") in keys
    assert {key[0] for key in keys} == {"send", "sendmsg", "recv", "recvmsg"}


def test_split_series_carry_the_label_and_do_not_exist_before_a_call() -> None:
    shown = snapshot(series(label="curl"), label_name="comm")
    one = family(metrics.DURATION, shown)
    assert one.labels == ("operation", "path", "transport", "comm")
    assert set(one.samples) == {("send", "user", "tcp", "curl")}
    calls = (InFlight("send", "tcp", "curl", 2, 0),)
    in_progress = family(metrics.IN_PROGRESS, replace(shown, in_flight=calls))
    assert in_progress.labels == ("operation", "path", "comm")
    assert in_progress.samples == {("send", "user", "curl"): 2}
    assert samples(metrics.IN_PROGRESS, shown) == {("send", "user", "curl"): 0}


def test_cells_with_the_same_label_text_are_added_up() -> None:
    twice = [
        series(label=name, of=aggregate({5: 2}, 10, 3, {"EPIPE": 1})) for name in ("\udcff", "?")
    ]
    shown = snapshot(*twice, label_name="comm")
    key = ("send", "user", "tcp", "?")
    assert samples(metrics.DURATION, shown) == {key: aggregate({5: 4}, 20, 6, {"EPIPE": 2})}
    assert samples(metrics.BYTES, shown) == {key: 6}
    assert samples(metrics.ERRORS, shown) == {("send", "user", "tcp", "EPIPE", "?"): 2}


def test_values_that_were_given_back_are_not_exported() -> None:
    """Their sum grows by old calls at once: a rate of it would be wrong."""
    counted = aggregate({100: 7}, 1000, 5, {"EPIPE": 1})
    for label, is_there in (("curl", True), (GIVEN_BACK, False)):
        one = series(label=label, of=counted)
        shown = snapshot(one, functions=(one,), label_name="comm")
        for metric in METRICS:
            if metric.splits and metric is not metrics.FUNCTION_BYTES:
                assert bool(samples(metric, shown)) == is_there, metric.name


def test_every_operation_has_an_in_progress_sample() -> None:
    found = samples(metrics.IN_PROGRESS, snapshot(in_progress=4))
    assert found["recv", "user"] == 4
    assert len(found) == 16


def test_the_tracer_s_own_state() -> None:
    shown = snapshot(in_progress=4)
    assert samples(metrics.PROBE_ATTACHED, shown) == {
        ("recvfrom", "tracepoint"): 1,
        ("sendto", "tracepoint"): 0,
    }
    assert samples(metrics.PROBE_ENTRIES, shown)[("recvfrom",)] == 27
    assert samples(metrics.PROBE_RETURNS, shown)[("recvfrom",)] == 22
    assert samples(metrics.PROBE_ABANDONED, shown)[("recvfrom",)] == 1
    assert samples(metrics.LOST, shown) == {("start_map_full",): 0, ("return_without_entry",): 3}
    assert samples(metrics.MAP_ENTRIES, shown) == {("threads",): 7}
    assert samples(metrics.MAP_CAPACITY, shown) == {("threads",): 16384}
    assert samples(metrics.PROGRAM_RUN_SECONDS, shown) == {("enter_recvfrom",): 0.25}
    assert samples(metrics.PROGRAM_RUNS, shown) == {("enter_recvfrom",): 23}
    assert samples(metrics.INFO, shown) == {("0.1.0", "6.18.0", "tracepoint"): 1}


def test_functions_have_series_of_their_own() -> None:
    shown = snapshot(
        functions=(series("tcp_sendmsg", "kernel", of=aggregate({5: 2}, 9, 4, {"EPIPE": 1})),)
    )
    key = ("tcp_sendmsg", "kernel", "tcp")
    assert samples(metrics.FUNCTION_DURATION, shown) == {key: shown.functions[0].aggregate}
    assert samples(metrics.FUNCTION_BYTES, shown) == {key: 4}
    silent = snapshot(functions=(series("sock_release", "kernel"),))
    assert samples(metrics.FUNCTION_BYTES, silent) == {}
    assert samples(metrics.FUNCTION_ERRORS, shown) == {(*key, "EPIPE"): 1}
