# SPDX-License-Identifier: MIT
"""docs/metrics.md and docs/fleet.md agree with the exporter: the table, and every count."""

import re
from pathlib import Path

from tests.pure.tracer.snapshots import aggregate, series, snapshot
from tracer.exporter.families import FAMILIES, family
from tracer.exporter.metrics import METRICS, Type
from tracer.exporter.render import BUCKET_BOUNDS, Format, Renderer
from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.snapshot import Snapshot

DOCS = Path(__file__).parents[3] / "docs"
LINES_OF_A_HISTOGRAM = len(BUCKET_BOUNDS) + 3  # +Inf, count, sum


def expected_table() -> str:
    lines = ["| metric | type | labels | |", "| --- | --- | --- | --- |"]
    for metric in METRICS:
        kind = "gauge, always 1" if metric.type is Type.INFO else metric.type.value
        labels = ", ".join([*metric.labels, *(["the label of `--by`"] if metric.splits else [])])
        lines.append(f"| `{metric.name}` | {kind} | {labels} | {metric.help} |")
    return "\n".join(lines)


def test_the_table_of_metrics_is_up_to_date() -> None:
    text = (DOCS / "metrics.md").read_text()
    found = re.search(r"<!-- METRICS:[^\n]*\n(.*?)\n?<!-- END -->", text, re.DOTALL)
    assert found
    assert found[1] == expected_table(), f"out of date; it should be:\n{expected_table()}"


def test_the_query_for_failures_leaves_out_the_expected_errnos() -> None:
    text = (DOCS / "metrics.md").read_text()
    assert re.findall(r'errno!~"([^"]*)"', text) == ["|".join(EXPECTED_ERRNOS)]


def lines(shown: Snapshot, prefix: str = "lunatik_socket_operation_") -> int:
    renderer = Renderer(Format.PROMETHEUS)
    metrics = [metric for metric in FAMILIES if metric.name.startswith(prefix)]
    text = "".join(renderer.render(family(metric, shown)) for metric in metrics)
    return sum(not line.startswith("#") for line in text.splitlines())


def test_the_fleet_s_counts_are_exact() -> None:
    fleet = (DOCS / "fleet.md").read_text()
    start = lines(snapshot())
    assert f"**{start:,}** for the operations" in fleet
    cell = lines(snapshot(series("send", transport="unix", of=aggregate({5: 1}, 1, 1)))) - start
    assert f"**{cell}** for each further" in fleet
    failing = aggregate({5: 1}, 1, 1, {"EIO": 1})
    rare = lines(snapshot(series("send", transport="unix", of=failing))) - start
    assert rare - cell == 1
    silent = lines(snapshot(series("bind", transport="unix"))) - start
    assert (silent, cell) == (LINES_OF_A_HISTOGRAM, LINES_OF_A_HISTOGRAM + 1)
    assert f"{LINES_OF_A_HISTOGRAM} lines of the histogram" in fleet
    one = lines(snapshot(functions=(series("tcp_sendmsg"),)), "lunatik_socket_function_")
    assert one == cell
    split = lines(snapshot(series(label="x"), label_name="comm")) - lines(
        snapshot(label_name="comm")
    )
    assert split == cell + 1  # and its calls in flight
