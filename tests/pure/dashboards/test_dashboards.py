# SPDX-License-Identifier: MIT
"""The boards, rules and alerts name metrics and labels that the exporter has."""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.pure.dashboards.boards import (
    BOARDS,
    DIRECTORY,
    RULE_FILES,
    Asked,
    panel_queries,
    panels,
    rule_queries,
    rules,
    used,
    variable_queries,
)
from tracer.exporter.metrics import METRICS, Type
from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.operations import OPERATIONS, WAITING_OPERATIONS

ROOT = DIRECTORY.parent
TARGET_LABELS = {"job", "instance", "le"}
PROCESS_METRICS = {
    "process_cpu_seconds_total": set[str](),
    "process_start_time_seconds": set[str](),
}
SERIES = {
    metric.name + suffix: set(metric.labels)
    for metric in METRICS
    for suffix in (("_bucket", "_count", "_sum") if metric.type is Type.HISTOGRAM else ("",))
} | PROCESS_METRICS
RECORDED = {rule["record"] for rule in rules() if "record" in rule}
UNITS = {"ops", "percentunit", "s", "short", "Bps"}


def promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    assert program, "promtool is missing: apt-get install prometheus"
    done = subprocess.run(
        [program, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=DIRECTORY / "prometheus",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_the_committed_board_is_up_to_date(board: Path) -> None:
    assert importlib.util.find_spec("grafana_foundation_sdk"), (
        "grafana-foundation-sdk is missing: ./setup.sh test"
    )
    from dashboards.source.boards import text  # noqa: PLC0415 - needs the SDK

    assert board.read_text() == text(board.stem), "out of date: run python -m dashboards.source"


def test_there_are_five_boards() -> None:
    names = ["connections", "in_kernel", "operation", "overview", "tracer"]
    assert [board.stem for board in BOARDS] == names


@pytest.mark.parametrize(
    "asked", panel_queries() + rule_queries() + variable_queries(), ids=lambda asked: asked.where
)
def test_a_query_names_only_existing_metrics_and_labels(asked: Asked) -> None:
    expression = re.sub(r"^label_values\((.*), (\w+)\)$", r'\1{\2=""}', asked.expression)
    expression = expression.replace('"}{', '",')
    names, labels = used(expression)
    assert names <= set(SERIES) | RECORDED | {"up"}
    assert names
    known = set().union(*(SERIES.get(name, {"operation", "path"}) for name in names))
    assert labels <= known | TARGET_LABELS


def test_every_metric_is_on_a_board() -> None:
    shown = {name for asked in panel_queries() for name in used(asked.expression)[0]}
    for metric in METRICS:
        assert any(name.startswith(metric.name) for name in shown), f"no board shows {metric.name}"


def test_every_recording_is_used() -> None:
    asked = " ".join(query.expression for query in rule_queries())
    alerts = "\n".join(rule["expr"] for rule in rules() if "alert" in rule)
    for name in RECORDED:
        # No rule uses the p50: it is for users' own queries, next to the p99 that the alert uses.
        assert name in (asked if "p50" not in name else asked + alerts + name)


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_every_panel_has_a_description_and_a_unit(board: Path) -> None:
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if panel["type"] in {"timeseries", "stat"}:
            assert defaults["unit"] in UNITS
        for target in panel["targets"]:
            assert target["refId"]
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] for target in panel["targets"])
            assert defaults["min"] == 0
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)


def test_legends_name_labels_that_their_query_keeps() -> None:
    for board in BOARDS:
        for panel in panels(board):
            for target in panel["targets"]:
                wanted = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
                kept = used(target["expr"])[1] | {
                    label for name in used(target["expr"])[0] for label in SERIES[name]
                }
                assert wanted <= kept | TARGET_LABELS


def test_boards_have_the_variables_they_use_and_link_to_each_other() -> None:
    uids = {json.loads(board.read_text())["uid"] for board in BOARDS}
    for board in BOARDS:
        content = json.loads(board.read_text())
        variables = {variable["name"] for variable in content["templating"]["list"]}
        queries = " ".join(t["expr"] for panel in panels(board) for t in panel["targets"])
        assert set(re.findall(r"\$([a-z]+)", queries)) <= variables
        assert {"datasource", "job", "instance"} <= variables
        assert {link["url"].removeprefix("/d/") for link in content["links"]} == uids - {
            content["uid"]
        }


def test_rules_and_alerts_are_valid() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", *(path.name for path in RULE_FILES))


def test_each_alert_fires_and_does_not_fire() -> None:
    assert "SUCCESS" in promtool("test", "rules", "tests/rules_test.yml")
    cases = (DIRECTORY / "prometheus/tests/rules_test.yml").read_text()
    for rule in rules():
        if "alert" in rule:
            found = re.findall(rf"alertname: {rule['alert']}\n\s+exp_alerts:(.*)", cases)
            assert " []" in found, f"{rule['alert']} has no test in which it does not fire"
            assert "" in found, f"{rule['alert']} has no test in which it fires"
        else:
            assert f"expr: {rule['record']}" in cases


def test_each_alert_has_a_summary_and_a_section_of_the_runbook() -> None:
    runbook = (ROOT / "docs/runbook.md").read_text()
    anchors = {title.strip().lower() for title in re.findall(r"^## (.*)$", runbook, re.MULTILINE)}
    for rule in rules():
        if "alert" in rule:
            assert rule["annotations"]["summary"]
            assert rule["labels"]["severity"] in {"warning", "critical"}
            path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert path == "docs/runbook.md"
            assert anchor == rule["alert"].lower()
            assert anchor in anchors


def test_rules_and_boards_agree_on_what_is_a_failure_and_what_waits() -> None:
    assert importlib.util.find_spec("grafana_foundation_sdk")
    from dashboards.source.queries import EXPECTED, WAITING  # noqa: PLC0415

    text = "".join(path.read_text() for path in RULE_FILES)
    boards = "".join(asked.expression for asked in panel_queries())
    for queries in (text, boards):
        assert set(re.findall(r'errno!~"([^"]*)"', queries)) == {EXPECTED}
        assert set(re.findall(r'operation!~"([^"$]*)"', queries)) == {WAITING}
        assert 'errno="ENOENT"' in queries
    assert "|".join(EXPECTED_ERRNOS) == EXPECTED
    assert "|".join(WAITING_OPERATIONS) == WAITING
    assert set(WAITING_OPERATIONS) <= {operation.name for operation in OPERATIONS}


def test_provisioning_and_compose_name_existing_files_and_services() -> None:
    provisioning = DIRECTORY / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources/lunatik-socket.yml").read_text())
    boards = yaml.safe_load((provisioning / "dashboards/lunatik-socket.yml").read_text())
    compose = yaml.safe_load((DIRECTORY / "compose.yml").read_text())["services"]
    grafana, prometheus = compose["grafana"], compose["prometheus"]
    (source,), (provider,) = sources["datasources"], boards["providers"]
    variable = source["url"].removeprefix("${").removesuffix("}")
    assert grafana["environment"][variable] == "http://127.0.0.1:9090"
    assert "--web.listen-address=127.0.0.1:9090" in prometheus["command"]
    mounts = dict(mount.split(":")[:2] for mount in grafana["volumes"] + prometheus["volumes"])
    assert mounts["./grafana"] == provider["options"]["path"]
    for inside in mounts:
        assert not inside.startswith("./") or (DIRECTORY / inside).is_dir()
    assert {service["network_mode"] for service in compose.values()} == {"host"}
    assert grafana["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
