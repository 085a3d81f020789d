# SPDX-License-Identifier: MIT
"""The event stream and the files of the live page, without a browser."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.pure.tracer.snapshots import aggregate, series, snapshot
from tracer.exporter import live, pages, streams
from tracer.exporter.http.routes import MetricsServer
from tracer.exporter.live import live_state
from tracer.loading.source import LOST_REASONS
from tracer.model.errnos import EXPECTED_ERRNOS
from tracer.model.operations import OPERATIONS
from tracer.model.snapshot import Snapshot

WAIT_SECONDS = 20
PAGE = Path(pages.__file__).with_name("page")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "INTERVAL_SECONDS", 0.05)


class Source:
    """A source of snapshots that counts its reads."""

    def __init__(self, shown: Snapshot | None = None) -> None:
        self.reads = 0
        self.shown = shown or snapshot(series())
        self.broken = False

    def __call__(self) -> Snapshot:
        self.reads += 1
        if self.broken:
            raise OSError(9, "Bad file descriptor")
        return self.shown


class Stream:
    """A client of /live."""

    def __init__(self, server: MetricsServer) -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=WAIT_SECONDS)
        self._connection.request("GET", "/live")
        self.response = self._connection.getresponse()

    def lines(self) -> Iterator[str]:
        while line := self.response.readline():
            yield line.decode().rstrip("\n")

    def state(self) -> dict[str, Any]:
        """The next state."""
        line = next(line for line in self.lines() if line.startswith("data: "))
        found: dict[str, Any] = json.loads(line.removeprefix("data: "))
        return found

    def close(self) -> None:
        self.response.close()
        self._connection.close()


@contextmanager
def streaming(source: Source, number: int = 1) -> Iterator[tuple[MetricsServer, list[Stream]]]:
    with MetricsServer(("127.0.0.1", 0), source) as server:
        streams = [Stream(server) for _ in range(number)]
        yield server, streams
        for stream in streams:
            stream.close()


def until(condition: Any) -> None:
    over = threading.Event()
    for _ in range(WAIT_SECONDS * 100):
        if condition():
            return
        over.wait(0.01)
    pytest.fail(f"not true within {WAIT_SECONDS} s")


def test_a_state_has_the_numbers_of_the_snapshot() -> None:
    with streaming(Source(snapshot(series(of=aggregate({100: 23}, 46, 7, {"EPIPE": 2}))))) as (
        _,
        (stream,),
    ):
        assert stream.response.getheader("Content-Type") == "text/event-stream"
        state = stream.state()
    (send,) = [
        o for o in state["operations"] if (o["operation"], o["transport"]) == ("send", "tcp")
    ]
    assert (send["count"], send["bytes"], send["errors"]) == (23, 7, {"EPIPE": 2})
    assert [count for _, count in send["slots"]] == [23]
    assert state["scrape_errors"] == 0
    assert state["at_seconds"] == 1.0


def test_a_state_has_all_operations_in_the_order_of_the_table() -> None:
    state = live_state(snapshot(series("select", transport="other"), series("new")))
    names = [one["operation"] for one in state["operations"]]
    assert list(dict.fromkeys(names)) == [operation.name for operation in OPERATIONS]


def test_a_call_that_has_not_returned_is_in_progress() -> None:
    state = live_state(snapshot(in_progress=1))
    waiting = {one["operation"]: one["in_progress"] for one in state["operations"]}
    assert waiting["recv"] == 1
    assert waiting["send"] == 0


def test_the_page_gets_the_expected_errnos_and_words_for_every_reason_of_loss() -> None:
    state = live_state(snapshot())
    assert tuple(state["expected_errnos"]) == EXPECTED_ERRNOS
    assert set(state["lost_words"]) == {*LOST_REASONS, "probe_missed"}


def test_the_values_of_an_extra_label_are_added_up() -> None:
    cells = [series(label=name, of=aggregate({5: 2}, 10, 3)) for name in ("curl", "ssh")]
    state = live_state(snapshot(*cells, label_name="comm"))
    (send,) = [one for one in state["operations"] if one["count"]]
    assert (send["count"], send["bytes"]) == (4, 6)
    assert "comm" not in send


def test_five_clients_cost_one_read_for_each_event() -> None:
    source = Source()
    with streaming(source, 5) as (_, streams):
        for _ in range(4):
            for stream in streams:
                stream.state()
        # Each of the five has had four states; events go on while they are read.
        assert source.reads < 20


def test_without_clients_nothing_is_read() -> None:
    source = Source()
    with streaming(source) as (server, (stream,)):
        stream.state()
        stream.close()
        watched = server._live
        assert watched is not None
        until(lambda: watched.watchers == 0 and watched._thread is None)
        reads = source.reads
        # The next client is served by a new thread.
        again = Stream(server)
        again.state()
        again.close()
        assert source.reads > reads


def test_a_client_that_never_reads_does_not_block_others() -> None:
    long = {f"E{i}": 1 for i in range(20_000)}
    big = Source(snapshot(series(of=aggregate({5: 1}, 1, 1, long))))
    with streaming(big) as (server, (reader,)):
        stuck = socket.create_connection(server.address, WAIT_SECONDS)
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /live HTTP/1.1\r\n\r\n")
        watched = server._live
        assert watched is not None
        until(lambda: watched.watchers == 2)
        # Some megabytes: more than the socket buffers of the client that does not read can hold.
        for _ in range(20):
            reader.state()
        stuck.close()


def test_one_page_too_many_of_an_address_takes_the_place_of_its_oldest() -> None:
    with streaming(Source()) as (server, readers):
        readers[0].state()
        for _ in range(streams.MAX_PER_CLIENT):
            readers.append(Stream(server))
            readers[-1].state()  # now it is open
        assert list(readers[0].lines())[-2:] == ["retry: 15000", ""]
        for reader in readers[1:]:
            reader.state()


def test_a_failing_source_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    source.broken = True
    with streaming(source) as (_, (stream,)):
        assert "event: failed" in (line for line in stream.lines())
        source.broken = False
        next(line for line in stream.lines() if line.startswith("data: {"))
    assert "cannot export snapshot: OSError: [Errno 9] Bad file descriptor" in caplog.text


def test_head_opens_no_stream() -> None:
    source = Source()
    with MetricsServer(("127.0.0.1", 0), source) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=WAIT_SECONDS)
        connection.request("HEAD", "/live")
        assert connection.getresponse().status == 200
        connection.close()
    assert source.reads == 0


@pytest.mark.parametrize("name", sorted(path.name for path in PAGE.iterdir()))
def test_files_are_served_with_their_type_and_the_policy(name: str) -> None:
    types = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
    with MetricsServer(("127.0.0.1", 0), Source()) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=WAIT_SECONDS)
        connection.request("GET", f"/{name}")
        response = connection.getresponse()
        assert response.read() == (PAGE / name).read_bytes()
        connection.close()
    wanted = types.get(Path(name).suffix)
    if wanted:
        assert response.getheader("Content-Type") == f"{wanted}; charset=utf-8"
    assert "script-src 'self'" in (response.getheader("Content-Security-Policy") or "")


def test_the_page_has_no_inline_code_and_no_foreign_address() -> None:
    text = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?://", text)
    for path in PAGE.glob("*.js"):
        if path.name != "uplot.js":
            assert "http://" not in path.read_text().replace("http://www.w3.org/2000/svg", "")


def test_the_charting_library_comes_with_its_licence() -> None:
    licence = (PAGE / "uplot.LICENSE.txt").read_text()
    assert "MIT" in licence
    assert "Leon Sorokin" in licence
    assert "uPlot" in (PAGE / "uplot.js").read_text()[:300]
