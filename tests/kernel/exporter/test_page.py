# SPDX-License-Identifier: MIT
"""The live page in a real browser, fed by a real session: its values are those of /metrics.

LUNATIK_SOCKET_SCREENSHOTS=docs/images writes new pictures for the docs.
"""

import http.client
import itertools
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.ui import WebDriverWait

from tests.kernel.children import TIMEOUT_SECONDS
from tests.kernel.exporter.browser import Browser, browsing, colours
from tests.kernel.workload import BYTES, CALLS, Round, Worker, working
from tests.pure.tracer.snapshots import aggregate, series, snapshot
from tracer.exporter.http.routes import MetricsServer
from tracer.model.histogram import OVERFLOW, SLOTS, UPPER_BOUNDS_SECONDS, quantile_seconds
from tracer.model.snapshot import Snapshot
from tracer.session import Session

pytestmark = pytest.mark.skipif(
    "LUNATIK_SOCKET_RING" in os.environ,
    reason="does not depend on the kernel: `make test` runs it on the host",
)

PATIENCE = 2 * TIMEOUT_SECONDS


@dataclass
class Place:
    """A browser, the exporter whose page it shows, and the worker that makes the calls."""

    browser: Browser
    server: MetricsServer
    worker: Worker
    session: Session

    @property
    def url(self) -> str:
        host, port = self.server.address
        return f"http://{host}:{port}"

    def until(self, condition: Callable[[], object], what: str) -> None:
        WebDriverWait(self.browser, PATIENCE, 0.05).until(lambda _: condition(), what)

    def text(self, selector: str) -> str:
        return str(
            self.browser.find_element(By.CSS_SELECTOR, selector).get_attribute("textContent")
        )

    def cell(self, key: str, column: str) -> str:
        return self.text(f'tr[data-key="{key}"] td[data-column="{column}"]')

    def rows(self) -> list[str]:
        script = (
            "return [...document.querySelectorAll('#operations tbody tr')].map(r => r.dataset.key)"
        )
        return list(self.browser.execute_script(script))

    def open(self) -> None:
        self.browser.get(f"{self.url}/")
        self.until(lambda: self.text("#status") == "live", "the page to be live")

    def after_work(self) -> None:
        """Work one round, and wait until the page shows it."""
        before = self.metrics().get(("send", "tcp", "_count"), 0)
        self.worker.work()
        shown = f"{int(before) + CALLS:,}"
        self.until(lambda: self.cell("send/user/tcp", "calls") == shown, "the page to catch up")

    def metrics(self) -> dict[tuple[str, ...], float]:
        """/metrics by (operation, transport, what)."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=TIMEOUT_SECONDS) as response:
            text = response.read().decode()
        found: dict[tuple[str, ...], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = sample.labels
                if family.name.startswith("lunatik_socket_operation") and "transport" in labels:
                    suffix = sample.name.removeprefix("lunatik_socket_operation_duration_seconds")
                    what = (labels["operation"], labels["transport"], suffix)
                    if not suffix.endswith("_bucket"):
                        found[(*what, *filter(None, [labels.get("errno")]))] = sample.value
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        working() as (worker, session),
        MetricsServer(("127.0.0.1", 0), session.snapshot) as server,
        browsing(tmp_path_factory.mktemp("profile")) as browser,
    ):
        made = Place(browser, server, worker, session)
        yield made
        made.server.stop()  # a test may have replaced the server


@pytest.fixture(autouse=True)
def _no_console_message(place: Place) -> Iterator[None]:
    place.browser.get_log("browser")
    yield
    messages = [
        entry["message"]
        for entry in place.browser.get_log("browser")
        # The browser's own line for a stream that ends while the exporter is stopped on purpose.
        if "ERR_CONNECTION_REFUSED" not in entry["message"]
        and "ERR_INCOMPLETE_CHUNKED_ENCODING" not in entry["message"]
    ]
    assert messages == []


def test_the_page_shows_the_numbers_of_metrics(place: Place) -> None:
    place.open()
    place.after_work()
    metrics = place.metrics()
    name = "lunatik_socket_operation_errors_total"
    for key in place.rows():
        operation, _, transport = key.split("/")
        assert place.cell(key, "calls") == f"{metrics[operation, transport, '_count']:,.0f}"
        place_of = (operation, transport, name)
        errors = sum(value for what, value in metrics.items() if what[:3] == place_of)
        assert place.cell(key, "errors") == f"{errors:,.0f}"
    rounds = int(metrics["send", "tcp", "_count"]) // CALLS
    assert place.cell("send/user/tcp", "bytes") == f"{rounds * CALLS * BYTES} B"
    assert place.cell("connect/user/tcp", "calls") == f"{rounds * (CALLS + 1)}"
    assert place.cell("connect/user/tcp", "errors") == f"{rounds * CALLS}"


def test_percentiles_are_those_of_python_for_the_same_slots(place: Place) -> None:
    place.open()
    cases = [{100: 1}, {0: 3, 9: 5}, {57: 10, 58: 1, 99: 2}, {3: 1, OVERFLOW: 99}, {}]
    script = """
        const [slots, share, done] = arguments;
        import("/numbers.js").then(({ quantile }) => {
          const value = quantile(slots, share);
          done(value === Infinity ? "Infinity" : value);
        });"""
    for case in cases:
        sparse = [
            [None if i == OVERFLOW else UPPER_BOUNDS_SECONDS[i] * 1e9, count]
            for i, count in case.items()
        ]
        whole = tuple(case.get(i, 0) for i in range(SLOTS))
        for share in (0.01, 0.5, 0.9, 0.99, 1):
            shown = place.browser.execute_async_script(script, sparse, share)
            expected = quantile_seconds(whole, share)
            if not case:
                assert shown is None
            elif expected == float("inf"):
                assert shown == "Infinity"
            else:
                assert shown == pytest.approx(expected, rel=1e-12)


def test_expected_errnos_are_no_failures_on_the_page(place: Place) -> None:
    """EAGAIN of a non-blocking socket is an error, but neither red nor first among failures."""
    numbers = itertools.count(100, 100)

    def source() -> Snapshot:
        failing = aggregate({100: 1}, errors={"EPIPE": 2})
        polling = aggregate({100: 10**6}, errors={"EAGAIN": next(numbers)})
        return snapshot(series("recv", of=polling), series("send", of=failing))

    real = place.server
    with MetricsServer(("127.0.0.1", 0), source) as made_up:
        place.server = made_up
        try:
            place.open()
            Select(place.browser.find_element(By.ID, "order")).select_by_value("failing")
            place.until(lambda: events(place) >= 2, "a second state")
            assert place.rows()[:2] == ["send/user/tcp", "recv/user/tcp"]
            red = "return document.querySelectorAll('#operations td.bad').length"
            assert place.browser.execute_script(red) == 0
            place.browser.get("about:blank")
        finally:
            place.server = real


def test_choosing_an_operation(place: Place) -> None:
    place.open()
    place.after_work()
    button = place.browser.find_element(By.CSS_SELECTOR, 'tr[data-key="connect/user/tcp"] button')
    button.click()
    assert place.text("#chosen-title") == "connect, tcp, user space"
    assert button.get_attribute("aria-pressed") == "true"
    refused = int(
        place.metrics()["connect", "tcp", "lunatik_socket_operation_errors_total", "ECONNREFUSED"]
    )
    assert place.text('#errors tr[data-key="ECONNREFUSED"] td') == f"{refused:,}"
    assert place.text("#heat-text").startswith("(most take ")
    # The canvas has more colours than its grid: cells are drawn.
    colours_seen = place.browser.execute_script("""
        const canvas = document.querySelector("#heat canvas");
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) {
          if (data[i + 3]) seen.add(data.slice(i, i + 4).join());
        }
        return seen.size;""")
    assert colours_seen > 3


def test_the_order_can_be_chosen(place: Place) -> None:
    place.open()
    place.after_work()
    place.until(lambda: len(place.rows()) >= 8, "all operations to be shown")
    assert place.rows()[0] == "new/user/tcp"
    Select(place.browser.find_element(By.ID, "order")).select_by_value("failing")
    assert place.rows()[0] == "connect/user/tcp"
    place.browser.find_element(By.ID, "idle").click()
    assert "getsockopt/user/udp" in place.rows()


def test_every_control_can_be_reached_by_keyboard(place: Place) -> None:
    place.open()
    place.after_work()
    script = "return document.activeElement.textContent || document.activeElement.id"
    reached = []
    for _ in range(30):
        place.browser.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(str(place.browser.execute_script(script)))
    for wanted in ("Pause", "idle", "connect", "send", "/metrics"):
        assert wanted in reached
    button = place.browser.find_element(By.CSS_SELECTOR, 'tr[data-key="send/user/tcp"] button')
    button.send_keys(Keys.ENTER)
    assert place.text("#chosen-title") == "send, tcp, user space"
    place.until(lambda: events(place) > 1, "another event")
    assert place.browser.switch_to.active_element == button


def events(place: Place) -> int:
    """Number of points in the first row's history: one for each event."""
    script = "return document.querySelectorAll('#operations svg polyline')[0].points.numberOfItems"
    return int(place.browser.execute_script(script))


def test_every_part_has_a_name_for_a_screen_reader(place: Place) -> None:
    place.open()
    place.after_work()
    nodes = place.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            role, name = node["role"]["value"], node.get("name", {}).get("value", "")
            roles.setdefault(role, []).append(name)
    assert "connect" in roles["button"]
    assert all(roles["button"])
    assert all(roles["combobox"])
    assert all(roles["checkbox"])
    assert "Operations" in roles["region"]
    assert roles["status"]
    assert {"Operations", "In-kernel functions", "Tracer"} <= set(roles["heading"])
    assert "Calls" in roles["columnheader"]


def test_pause_and_resume(place: Place) -> None:
    place.open()
    place.after_work()
    pause = place.browser.find_element(By.ID, "pause")
    pause.click()
    assert place.text("#status") == "paused"
    before = place.cell("send/user/tcp", "calls")
    streams = place.server._live
    assert streams is not None
    place.until(lambda: streams.watchers == 0, "the stream to be closed")
    place.worker.work()
    assert place.cell("send/user/tcp", "calls") == before
    pause.click()
    shown = f"{place.metrics()['send', 'tcp', '_count']:,.0f}"
    place.until(lambda: place.cell("send/user/tcp", "calls") == shown, "the page to catch up")
    assert place.text("#status") == "live"


def test_a_hidden_page_closes_its_stream(place: Place) -> None:
    place.open()
    streams = place.server._live
    assert streams is not None
    place.browser.switch_to.new_window("tab")
    place.until(lambda: streams.watchers == 0, "the stream to be closed")
    place.browser.close()
    place.browser.switch_to.window(place.browser.window_handles[0])
    place.until(lambda: place.text("#status") == "live", "the page to be live again")
    assert streams.watchers == 1


def test_it_reconnects_when_the_exporter_comes_back(place: Place) -> None:
    place.open()
    address = place.server.address
    place.server.stop()
    place.until(lambda: "connection lost" in place.text("#status"), "the loss to be noticed")
    place.server = MetricsServer(address, place.session.snapshot)
    place.server.start()
    place.until(lambda: place.text("#status") == "live", "the page to be live again")


def test_nothing_is_fetched_from_another_host(place: Place) -> None:
    place.open()
    place.after_work()
    script = "return performance.getEntriesByType('resource').map(e => e.name)"
    fetched = list(place.browser.execute_script(script))
    assert len(fetched) >= 6
    assert all(address.startswith(f"{place.url}/") for address in fetched)


def test_inline_code_is_refused(place: Place) -> None:
    place.open()
    connection = http.client.HTTPConnection(*place.server.address, timeout=TIMEOUT_SECONDS)
    connection.request("GET", "/")
    policy = connection.getresponse().getheader("Content-Security-Policy") or ""
    connection.close()
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    script = """
        const code = document.createElement("script");
        code.textContent = "window.injected = 1";
        document.body.append(code);
        return window.injected ?? null;"""
    assert place.browser.execute_script(script) is None
    refused = [entry["message"] for entry in place.browser.get_log("browser")]
    assert len(refused) == 1
    assert "Content Security Policy" in refused[0]


def test_a_narrow_window_scrolls_the_table_and_not_the_page(place: Place) -> None:
    size = place.browser.get_window_size()
    place.browser.set_window_size(420, 900)
    try:
        place.open()
        place.after_work()
        script = (
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        wide, seen = place.browser.execute_script(script)
        assert wide <= seen
    finally:
        place.browser.set_window_size(size["width"], size["height"])


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_both_colour_schemes_read_well(place: Place, scheme: str, tmp_path: Path) -> None:
    colours(place.browser, scheme)
    place.open()
    directory = Path(os.environ.get("LUNATIK_SOCKET_SCREENSHOTS", tmp_path))
    place.after_work()
    place.browser.find_element(By.CSS_SELECTOR, 'tr[data-key="connect/user/tcp"] button').click()
    with Round(place.worker):
        place.until(lambda: events(place) >= 20, "20 seconds of history")
        picture = directory / f"page-{scheme}.png"
        assert place.browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 20_000
    for selector in ("body", "td", "thead th", "#operations button", "figcaption", "#about"):
        assert contrast(place.browser, selector) >= 4.5, selector


def contrast(browser: Browser, selector: str) -> float:
    """The contrast ratio of WCAG 2 between the text of an element and its background."""
    script = """
        let node = document.querySelector(arguments[0]);
        const text = getComputedStyle(node).color;
        const clear = () => getComputedStyle(node).backgroundColor === "rgba(0, 0, 0, 0)";
        while (node.parentElement && clear()) node = node.parentElement;
        return [text, getComputedStyle(node).backgroundColor];"""
    lights = sorted(luminance(colour) for colour in browser.execute_script(script, selector))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_user_and_kernel_side_and_functions_stand_side_by_side(place: Place) -> None:
    """With made-up numbers: this machine's kernel may have no functions to trace."""
    calls = aggregate({100: 23}, 46, 7, {"ERESTARTSYS": 2})
    sides = [series("sendmsg", path, of=calls) for path in ("user", "kernel")]
    shown = snapshot(*sides, functions=(series("tcp_sendmsg", "kernel", of=calls),))
    real = place.server
    with MetricsServer(("127.0.0.1", 0), lambda: shown) as made_up:
        place.server = made_up
        try:
            place.open()
            place.until(lambda: len(place.rows()) == 2, "both sides")
            assert place.rows() == ["sendmsg/user/tcp", "sendmsg/kernel/tcp"]
            assert place.cell("sendmsg/kernel/tcp", "calls") == "23"
            assert place.cell("tcp_sendmsg/kernel/tcp", "errors") == "2"
            assert place.text("#tracer dd:nth-of-type(4)") == "1 of 2; missing: sendto"
            assert place.text("#tracer dd:nth-of-type(5)") == "3 (3 their entry was not seen)"
            hidden = "return document.getElementById('no-functions').hidden"
            assert place.browser.execute_script(hidden)
            place.browser.get("about:blank")
        finally:
            place.server = real


def test_the_stream_is_plain_json_of_the_snapshot(place: Place) -> None:
    place.worker.work()
    connection = http.client.HTTPConnection(*place.server.address, timeout=TIMEOUT_SECONDS)
    connection.request("GET", "/live")
    response = connection.getresponse()
    assert response.getheader("Content-Type") == "text/event-stream"
    state: dict[str, Any] = {}
    while not state:
        line = response.readline().decode()
        if line.startswith("data: "):
            state = json.loads(line.removeprefix("data: "))
    connection.close()
    by_place = {(one["operation"], one["transport"]): one for one in state["operations"]}
    send = by_place["send", "tcp"]
    assert send["count"] % CALLS == 0
    assert sum(count for _, count in send["slots"]) == send["count"]
    assert {one["operation"] for one in state["operations"]} >= {"accept", "select", "poll"}
