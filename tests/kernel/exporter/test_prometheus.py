# SPDX-License-Identifier: MIT
"""A real Prometheus scrapes the exporter: every query of every panel and rule, with its value."""

import functools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from tests.kernel.children import wait_until
from tests.kernel.cli.command_line import free_port
from tests.kernel.exporter.prometheus import Prometheus, prometheus
from tests.kernel.workload import BYTES, CALLS, Worker, exchange, working
from tests.pure.dashboards.boards import Asked, panel_queries, rule_queries, rules, with_variables
from tracer.exporter.http.routes import MetricsServer
from tracer.model.snapshot import Snapshot
from tracer.session import Session

pytestmark = pytest.mark.skipif(
    "LUNATIK_SOCKET_RING" in os.environ,
    reason="does not depend on the kernel: `make test` runs it on the host",
)

ROUNDS = 30
WINDOW = "60s"
DURATION = "lunatik_socket_operation_duration_seconds"


@dataclass
class Seen:
    """A Prometheus that has scraped before, during and after ROUNDS rounds of the workload."""

    prometheus: Prometheus
    session: Session
    snapshot: Snapshot
    has_functions: bool


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with (
        working(functools.partial(exchange, free_port()), measure_cost=True, connections=True) as (
            worker,
            session,
        ),
        MetricsServer(("127.0.0.1", 0), session.snapshot) as server,
        prometheus(tmp_path_factory.mktemp("prometheus"), static=_address(server)) as observer,
    ):
        count = f'sum({DURATION}_count{{operation="send"}})'
        # Rates are exact only if Prometheus has scraped the counters at zero.
        wait_until(lambda: [v for _, v in observer.query(count)] == [0], "the first scrape")
        # The series of a peer begin with its first connection: scraped before there are more.
        worker.work()
        wait_until(lambda: observer.value(count) == CALLS, "the scrape of the first round")
        _work(worker)
        expected = ROUNDS * CALLS
        wait_until(lambda: observer.value(count) == expected, "the last scrape")
        # Wait for two evaluations of all rules: some rules use the results of others.
        evaluated = time.time()
        wait_until(lambda: _all_evaluated_after(observer, evaluated), "the rules")
        evaluated = time.time()
        wait_until(lambda: _all_evaluated_after(observer, evaluated), "the rules, again")
        snapshot = session.snapshot()
        functions = any(probe.path == "kernel" and probe.attached for probe in snapshot.probes)
        yield Seen(observer, session, snapshot, functions)


def _address(server: MetricsServer) -> str:
    host, port = server.address
    return f'"{host}:{port}"'


def _work(worker: Worker) -> None:
    for _ in range(ROUNDS - 1):
        worker.work()


def _all_evaluated_after(observer: Prometheus, moment: float) -> bool:
    def at(rule: dict[str, str]) -> float:
        return datetime.fromisoformat(rule["lastEvaluation"]).timestamp()

    found = observer.rules()
    return len(found) == len(rules()) and all(at(rule) >= moment for rule in found)


def asked_of_functions(asked: Asked) -> bool:
    """Whether the query has data only where functions are traced or the kernel uses sockets.

    This machine's kernel may have neither kprobes nor fentry, and it uses no sockets itself.
    """
    return "lunatik_socket_function_" in asked.expression or 'path="kernel"' in asked.expression


def asked_of_answers(asked: Asked) -> bool:
    """Whether the query has data only where a client gets an answer: the workload's get none."""
    return "lunatik_socket_answer_" in asked.expression


def asked_of_listeners(asked: Asked) -> bool:
    """Whether the query has data only while a listener is open: the workload's are for a moment."""
    return "lunatik_socket_accept_queue_" in asked.expression or (
        "lunatik_socket_accept_drops_" in asked.expression
    )


@pytest.mark.parametrize(
    "asked",
    [asked for asked in panel_queries() if not asked_of_listeners(asked)],
    ids=lambda asked: asked.where,
)
def test_every_query_of_every_panel_has_data(seen: Seen, asked: Asked) -> None:
    expression = with_variables(asked.expression, __rate_interval=WINDOW)
    answer = seen.prometheus.query(expression)
    now = time.time()
    graph = seen.prometheus.range(expression, now - 30, now, 1)
    if asked_of_answers(asked):
        assert answer == []
    elif not asked_of_functions(asked):
        assert answer
        assert graph
    elif not seen.has_functions:
        assert answer == []
        assert graph == []


def test_every_rule_is_evaluated_without_error(seen: Seen) -> None:
    found = seen.prometheus.rules()
    assert {rule["name"] for rule in found} == {asked.where for asked in rule_queries()}
    assert {rule["health"] for rule in found} == {"ok"}
    assert [rule.get("lastError") for rule in found if rule.get("lastError")] == []


@pytest.mark.parametrize("name", [rule["record"] for rule in rules() if "record" in rule])
def test_every_recording_has_data(seen: Seen, name: str) -> None:
    assert seen.prometheus.query(name)


def test_the_alert_for_failing_connects_is_pending_and_no_other(seen: Seen) -> None:
    states = {rule["name"]: rule["state"] for rule in seen.prometheus.rules() if "alerts" in rule}
    assert states.pop("LunatikSocketOperationFailing") == "pending"
    assert set(states.values()) == {"inactive"}


def panel(where: str, **variables: str) -> str:
    """The query of a panel with these variables set."""
    (found,) = [asked for asked in panel_queries() if asked.where == where]
    return with_variables(found.expression, __rate_interval=WINDOW, **variables)


def test_calls_per_second(seen: Seen) -> None:
    calls = seen.prometheus.value(panel("operation: Calls: A", operation="send"))
    # Prometheus extrapolates to the end of the window, by at most 1.1 scrape intervals, and not
    # before the first sample, because that is zero.
    samples = seen.prometheus.value(f"count_over_time(up[{WINDOW}])")
    seconds = samples - 1
    exact = ROUNDS * CALLS / 60
    assert exact * (1 - 1e-9) <= calls <= exact * (seconds + 1.2) / seconds


def test_failing_share_is_exact(seen: Seen) -> None:
    share = seen.prometheus.value(panel("operation: Failing: A", operation="connect"))
    assert share == pytest.approx(CALLS / (CALLS + 1), rel=1e-9)
    assert seen.prometheus.value(panel("operation: Failing: A", operation="send")) == 0


def test_errors_by_errno(seen: Seen) -> None:
    found = seen.prometheus.query(panel("operation: Errors by errno: A", operation="connect"))
    failing = {labels["errno"] for labels, value in found if value > 0}
    assert failing == {"ECONNREFUSED"}


def test_bytes_of_a_call_are_exact(seen: Seen) -> None:
    moved = panel("operation: Bytes: A", operation="send")
    calls = panel("operation: Calls: A", operation="send")
    # In one query, so that both are of the same moment.
    assert seen.prometheus.value(f"{moved} / {calls}") == pytest.approx(BYTES, rel=1e-9)


@pytest.mark.parametrize("operation", ["send", "connect", "close"])
@pytest.mark.parametrize(("name", "share"), [("p50", 0.5), ("p99", 0.99)])
def test_percentiles_lie_within_their_bucket(
    seen: Seen, operation: str, name: str, share: float
) -> None:
    shown = seen.prometheus.value(panel(f"operation: {name}: A", operation=operation))
    exact = seen.snapshot.total(operation).quantile_seconds(share)
    assert 0.5 <= shown / exact <= 2


def test_the_overview_s_table_has_a_row_for_each_operation_used(seen: Seen) -> None:
    rows = seen.prometheus.query(panel("overview: Operations, worst first: A"))
    busy = {labels["operation"] for labels, value in rows if value > 0}
    used = {series.name for series in seen.snapshot.operations if series.path == "user"}
    assert busy == used
    assert {"send", "recv", "connect", "accept", "close", "new"} <= busy


def test_no_rate_loses_the_first_calls(seen: Seen) -> None:
    """The series was at zero before, so its increase over all time is the count itself."""
    increase = f'increase({DURATION}_count{{operation="accept",transport="tcp"}}[{WINDOW}])'
    assert seen.prometheus.value(increase) >= ROUNDS


def test_prometheus_took_openmetrics_and_every_sample(seen: Seen) -> None:
    samples = seen.prometheus.value("scrape_samples_scraped")
    kept = seen.prometheus.value("scrape_samples_post_metric_relabeling")
    assert samples == kept > 1000
    (target,) = seen.prometheus.targets()
    assert (target["health"], target["lastError"]) == ("up", "")


def test_measured_cost_is_there(seen: Seen) -> None:
    spent = seen.prometheus.value("sum(lunatik_socket_tracer_program_run_seconds_total)")
    assert 0 < spent < 60
