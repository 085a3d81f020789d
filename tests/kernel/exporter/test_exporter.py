# SPDX-License-Identifier: MIT
"""A scrape of the exporter with a real session has exactly the numbers of the workload."""

import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.kernel.children import TIMEOUT_SECONDS, Child
from tracer.exporter.http.routes import MetricsServer
from tracer.exporter.render import Format
from tracer.session import Session

CALLS = 23
Numbers = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def server(session: Session) -> Iterator[MetricsServer]:
    with MetricsServer(("127.0.0.1", 0), session.snapshot) as running:
        yield running


def scrape(server: MetricsServer, form: Format = Format.OPENMETRICS) -> str:
    host, port = server.address
    request = urllib.request.Request(
        f"http://{host}:{port}/metrics", headers={"Accept": form.value}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        text: str = response.read().decode()
    return text


def numbers(server: MetricsServer) -> Numbers:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for found in text_string_to_metric_families(scrape(server))
        for sample in found.samples
    }


def moved(before: Numbers, after: Numbers, name: str, **labels: str) -> float:
    key = (name, frozenset({"path": "user", **labels}.items()))
    return after[key] - before[key]


def send_and_receive_datagrams() -> None:
    """Only UDP: this process is traced too, and its scrape is TCP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(CALLS):
                sender.sendto(b"12345", receiver.getsockname())
                assert receiver.recv(100) == b"12345"
            receiver.setblocking(False)
            for _ in range(CALLS):
                with pytest.raises(BlockingIOError):
                    receiver.recv(100)


def test_a_scrape_shows_exactly_the_workload(server: MetricsServer) -> None:
    before = numbers(server)
    assert Child(send_and_receive_datagrams).wait() == 0
    after = numbers(server)
    udp = {"transport": "udp"}
    duration = "lunatik_socket_operation_duration_seconds"
    for operation, calls in {
        "new": 2,
        "bind": 1,
        "send": CALLS,
        "recv": 2 * CALLS,
        "close": 2,
    }.items():
        labels = {"operation": operation, **udp}
        assert moved(before, after, f"{duration}_count", **labels) == calls
        assert moved(before, after, f"{duration}_bucket", le="+Inf", **labels) == calls
        assert 0 < moved(before, after, f"{duration}_sum", **labels) < TIMEOUT_SECONDS
    for operation in ("send", "recv"):
        labels = {"operation": operation, **udp}
        assert moved(before, after, "lunatik_socket_operation_bytes_total", **labels) == 5 * CALLS
    errors = {"operation": "recv", "errno": "EAGAIN", **udp}
    assert moved(before, after, "lunatik_socket_operation_errors_total", **errors) == CALLS


def test_every_operation_is_exported_and_nothing_is_missing(server: MetricsServer) -> None:
    found = numbers(server)
    started = {
        labels
        for name, labels in found
        if name == "lunatik_socket_operation_duration_seconds_count"
    }
    assert len({dict(labels)["operation"] for labels in started}) == 16
    attached = {v for (name, _), v in found.items() if name.endswith("_probe_attached")}
    assert attached == {1}
    assert found["lunatik_socket_tracer_scrape_errors_total", frozenset()] == 0


def test_entries_are_the_sum_of_returns_abandoned_and_in_progress(server: MetricsServer) -> None:
    found = numbers(server)

    def total(ending: str) -> float:
        return sum(value for (name, _), value in found.items() if name.endswith(ending))

    entered, returned = total("_probe_entries_total"), total("_probe_returns_total")
    assert entered == returned + total("_probe_abandoned_total") + total("_in_progress")
    assert entered > 0


def test_promtool_finds_no_problem(server: MetricsServer) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing: apt-get install prometheus"
    text = scrape(server, Format.PROMETHEUS)
    assert re.search(r"^lunatik_socket_tracer_info{", text, re.MULTILINE)
    done = subprocess.run(
        [promtool, "check", "metrics"],
        check=False,
        input=text,
        text=True,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
