# SPDX-License-Identifier: MIT
"""The exporter over real connections: its answers, and that no client can block another."""

import errno
import gzip
import http.client
import itertools
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import MappingProxyType

import pytest

from tests.pure.tracer.snapshots import series, snapshot
from tracer.errors import TracerError
from tracer.exporter.http import handler
from tracer.exporter.http import server as http_server
from tracer.exporter.http.routes import MetricsServer
from tracer.exporter.render import Format
from tracer.model.snapshot import MapUse, Snapshot

WAIT_SECONDS = 20
LOGGER = "tracer.exporter"


@contextmanager
def serving(source: Callable[[], Snapshot] = snapshot) -> Iterator[MetricsServer]:
    with MetricsServer(("127.0.0.1", 0), source) as server:
        yield server


def ask(
    server: MetricsServer, path: str = "/metrics", method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(*server.address, timeout=WAIT_SECONDS)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=named)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def connect(server: MetricsServer) -> socket.socket:
    return socket.create_connection(server.address, timeout=WAIT_SECONDS)


def exchange(server: MetricsServer, request: bytes) -> bytes:
    """Everything received until the server closes the connection."""
    with connect(server) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


def value(body: bytes, name: str) -> float:
    found = re.search(rb"^" + re.escape(name.encode()) + rb" (\S+)$", body, re.MULTILINE)
    assert found, f"no {name}"
    return float(found[1])


@pytest.mark.parametrize("form", list(Format))
def test_metrics_in_both_formats(form: Format) -> None:
    with serving(lambda: snapshot(series())) as server:
        response, body = ask(server, Accept=form.value)
    assert response.status == 200
    assert response.getheader("Content-Type") == form.value
    assert response.getheader("Vary") == "Accept, Accept-Encoding"
    assert int(response.getheader("Content-Length", "")) == len(body)
    assert body.endswith(b"# EOF\n") == (form is Format.OPENMETRICS)
    count = 'lunatik_socket_operation_duration_seconds_count{operation="send",path="user",'
    assert value(body, count + 'transport="tcp"}') == 1
    assert value(body, "process_open_fds") > 0
    assert value(body, "lunatik_socket_tracer_scrape_duration_seconds") > 0


def test_gzip_has_the_same_content() -> None:
    with serving() as server:
        response, body = ask(server, Accept_Encoding="gzip")
    assert response.getheader("Content-Encoding") == "gzip"
    assert value(gzip.decompress(body), 'lunatik_socket_tracer_map_entries{map="threads"}') == 7


def test_each_scrape_is_fresh() -> None:
    numbers = itertools.count(1)
    with serving(
        lambda: replace(snapshot(), maps=(MapUse("threads", next(numbers), 9),))
    ) as server:
        name = 'lunatik_socket_tracer_map_entries{map="threads"}'
        assert [value(ask(server)[1], name) for _ in range(3)] == [1, 2, 3]


def test_head_answers_as_get_without_the_body() -> None:
    with serving() as server:
        answer = exchange(server, b"HEAD /metrics HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) > 1000  # type: ignore[index]
    assert body == b""


def test_one_connection_serves_many_requests() -> None:
    with serving() as server:
        connection = http.client.HTTPConnection(*server.address, timeout=WAIT_SECONDS)
        connection.connect()
        sock = connection.sock
        for _ in range(3):
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"ok\n")
            assert connection.sock is sock
        connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_answered_with_the_allowed_ones(method: str) -> None:
    with serving() as server:
        response, _ = ask(server, method=method)
    assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")


def test_a_body_is_never_taken_for_the_next_request() -> None:
    inner = b"GET /healthz HTTP/1.1\r\n\r\n"
    request = b"POST /metrics HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(inner)
    with serving() as server:
        answer = exchange(server, request + inner)
    assert answer.count(b"HTTP/1.1 ") == 1


# Some are larger than the socket buffers: the answer comes while the client still sends.
@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
        (b"GET /metrics?name[]=x HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        (b"GET /" + b"a" * 8_000_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 8_000_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n", 431),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
    ],
)
def test_odd_requests(request_line: bytes, status: int) -> None:
    with serving() as server:
        answer = exchange(server, request_line)
        assert ask(server)[0].status == 200
    assert answer.startswith(b"HTTP/1.1 %d " % status)


def test_port_in_use_is_one_line_with_a_hint() -> None:
    with serving() as server:
        host, port = server.address
        with pytest.raises(TracerError, match="cannot serve") as caught:
            MetricsServer((host, port), snapshot).start()
    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value) == (
        f'cannot serve metrics on "127.0.0.1:{port}": '
        "Address already in use (EADDRINUSE); choose another with --metrics"
    )


def test_an_address_of_another_machine() -> None:
    with pytest.raises(TracerError, match="cannot serve") as caught:
        MetricsServer(("192.0.2.1", 0), snapshot).start()
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert str(caught.value) == (
        'cannot serve metrics on "192.0.2.1:0": '
        "Cannot assign requested address (EADDRNOTAVAIL); choose another with --metrics"
    )


def test_ipv6() -> None:
    with MetricsServer(("::1", 0), snapshot) as server:
        assert ask(server)[0].status == 200


def test_the_port_is_free_again_after_stop() -> None:
    with serving() as server:
        address = server.address
        ask(server)
    with MetricsServer(address, snapshot) as again:
        assert ask(again)[0].status == 200


def test_stop_ends_every_thread_with_clients_still_connected() -> None:
    before = set(threading.enumerate())
    with ExitStack() as stack:
        with serving() as server:
            silent = [stack.enter_context(connect(server)) for _ in range(5)]
            silent[0].sendall(b"GET /met")
            ask(server)
        assert set(threading.enumerate()) == before
        assert all(client.recv(1) == b"" for client in silent)


def test_silent_clients_do_not_keep_others_out() -> None:
    with serving() as server, ExitStack() as stack:
        clients = [
            stack.enter_context(connect(server)) for _ in range(2 * http_server.MAX_CONNECTIONS)
        ]
        response, _ = ask(server)
        assert response.status == 200
        # The oldest connection was closed first.
        assert clients[0].recv(1) == b""


def test_clients_that_ask_and_never_read_do_not_block_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler, "ANSWER_SECONDS", 0.3)
    long = "x" * 5000  # 36 lines with it for each series: more than the socket buffers hold
    big = snapshot(*(series(label=f"{i}{long}") for i in range(100)), label_name="comm")
    with serving(lambda: big) as server, ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(5)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert ask(server, "/healthz")[0].status == 200
        # After the deadline their threads end, which also frees the memory.
        web_server = server._web
        assert web_server is not None
        for thread in list(web_server._listener._threads):
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()


def test_a_client_that_sends_its_request_too_slowly_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_server, "FIRST_SECONDS", 0.3)
    with serving() as server, connect(server) as client:
        client.settimeout(0.02)
        for _ in range(1000):
            try:
                client.send(b"G")
                assert client.recv(1) == b""
                break
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                break
        else:
            pytest.fail("still connected after 20 s")


def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "IDLE_SECONDS", 0.3)
    with serving() as server:
        answer = exchange(server, b"GET /healthz HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"ok\n")


def test_ten_scrapes_at_once_read_at_most_twice() -> None:
    entered, go_on = threading.Event(), threading.Event()
    reads = 0

    def source() -> Snapshot:
        nonlocal reads
        reads += 1
        entered.set()
        assert go_on.wait(WAIT_SECONDS)
        return snapshot()

    with serving(source) as server:
        scraper = server._scraper._shared
        asking = [threading.Thread(target=ask, args=(server,)) for _ in range(10)]
        for thread in asking:
            thread.start()
        assert entered.wait(WAIT_SECONDS)
        waiters = scraper._changed._waiters  # type: ignore[attr-defined]
        deadline = threading.Event()
        while len(waiters) < 9:
            assert not deadline.wait(0.01)
        go_on.set()
        for thread in asking:
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()
    assert reads == 2


def test_a_metric_that_cannot_be_made_is_left_out_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken = replace(snapshot(series()), lost=None)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR, LOGGER), serving(lambda: broken) as server:
        response, body = ask(server)
    assert response.status == 200
    assert b"lunatik_socket_tracer_lost_total" not in body
    assert b"lunatik_socket_tracer_map_capacity" in body
    assert value(body, "lunatik_socket_tracer_scrape_errors_total") == 1
    assert [record.getMessage() for record in caplog.records] == [
        "cannot export lunatik_socket_tracer_lost_total: "
        "AttributeError: 'NoneType' object has no attribute 'items'"
    ]


def test_with_a_failing_source_the_exporter_s_own_metrics_remain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers = iter([OSError(errno.EBADF, "Bad file descriptor"), snapshot()])

    def source() -> Snapshot:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with caplog.at_level(logging.ERROR, LOGGER), serving(source) as server:
        response, body = ask(server)
        assert response.status == 200
        assert value(body, "lunatik_socket_tracer_scrape_errors_total") == 1
        assert value(body, "process_open_fds") > 0
        assert ask(server, "/healthz")[0].status == 503
        _, body = ask(server)
        assert value(body, 'lunatik_socket_tracer_map_entries{map="threads"}') == 7
        assert ask(server, "/healthz")[0].status == 200
    assert [record.getMessage() for record in caplog.records] == [
        "cannot export snapshot: OSError: [Errno 9] Bad file descriptor"
    ]


def test_a_snapshot_s_mappings_may_be_read_only() -> None:
    frozen = replace(snapshot(), lost=MappingProxyType({"start_map_full": 2}))
    with serving(lambda: frozen) as server:
        _, body = ask(server)
    assert value(body, 'lunatik_socket_tracer_lost_total{reason="start_map_full"}') == 2


def test_a_listener_that_was_passed_is_served() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        MetricsServer(("192.0.2.1", 1), snapshot, listener=listener) as server,
    ):
        assert server.address == listener.getsockname()
        response, _ = ask(server, "/healthz")
        assert response.status == 200
