# SPDX-License-Identifier: MIT
"""Who may ask: TLS, client certificates, passwords, the Host header, the rate limit."""

import base64
import http.client
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.pure.tracer.exporter.http.certificates import HASHES, PASSWORD, USER, Certificates
from tests.pure.tracer.snapshots import snapshot
from tracer.exporter.http import handler, server
from tracer.exporter.http.config_file import WebConfigFile
from tracer.exporter.http.connections import Connection, Connections
from tracer.exporter.http.refusals import Refusals
from tracer.exporter.http.routes import MetricsServer

WAIT_SECONDS = 30
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENTS = TLS + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"
USERS = f"basic_auth_users: {{{USER}: {HASHES[0]}}}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make("client", "DNS:prometheus.example")
    return made


@contextmanager
def serving(
    config: str | None = None, host: str = "127.0.0.1", names: tuple[str, ...] = ()
) -> Iterator[MetricsServer]:
    read = None if config is None else WebConfigFile(config)
    with MetricsServer((host, 0), snapshot, config=read, host_names=names) as running:
        yield running


def authorization(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def ask(
    running: MetricsServer,
    headers: dict[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    path: str = "/healthz",
) -> tuple[http.client.HTTPResponse, bytes]:
    host, port = running.address
    kind = http.client.HTTPConnection(host, port, timeout=WAIT_SECONDS)
    if context is not None:
        kind = http.client.HTTPSConnection(host, port, timeout=WAIT_SECONDS, context=context)
    try:
        kind.request("GET", path, headers=headers or {})
        response = kind.getresponse()
        return response, response.read()
    finally:
        kind.close()


def status(running: MetricsServer, **headers: str) -> int:
    return ask(running, headers)[0].status


def refusals(running: MetricsServer) -> dict[str, int]:
    return {reason: number for reason, number in running._refusals.counts.items() if number}


def curl(made: Certificates, running: MetricsServer, *options: str) -> tuple[int, str]:
    url = f"https://localhost:{running.address[1]}/healthz"
    done = subprocess.run(
        ["curl", "-sS", "--cacert", made.ca, "--write-out", "\n%{http_code}", *options, url],
        cwd=made.directory,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


def test_curl_over_tls_with_a_password(made: Certificates) -> None:
    with serving(made.config(TLS + USERS)) as running:
        assert curl(made, running, "--user", f"{USER}:{PASSWORD}") == (0, "ok\n\n200")
        assert curl(made, running)[1].endswith("\n401")
        assert curl(made, running, "--tlsv1.2", "--tls-max", "1.2")[1].endswith("\n401")


def test_curl_with_a_client_certificate(made: Certificates) -> None:
    own = ("--cert", "client.crt", "--key", "client.key")
    with serving(made.config(CLIENTS)) as running:
        assert curl(made, running, *own) == (0, "ok\n\n200")
        code, output = curl(made, running)
        assert (code != 0, output) == (True, "\n000")
        assert refusals(running) == {"handshake": 1}
    allowed = "  client_allowed_sans: [{}]\n"
    with serving(made.config(CLIENTS + allowed.format("prometheus.example"))) as running:
        assert curl(made, running, *own) == (0, "ok\n\n200")
    with serving(made.config(CLIENTS + allowed.format("grafana.example"))) as running:
        assert curl(made, running, *own)[0] != 0
        assert refusals(running) == {"handshake": 1}


def test_a_client_below_the_minimum_version_is_refused(made: Certificates) -> None:
    with serving(made.config(TLS + "  min_version: TLS13\n")) as running:
        assert curl(made, running, "--tls-max", "1.2")[0] != 0
        assert curl(made, running) == (0, "ok\n\n200")


def test_plain_text_on_the_port_of_tls_is_told_so(made: Certificates) -> None:
    with serving(made.config(TLS)) as running:
        response, body = ask(running)
    assert (response.status, body) == (400, b"this port speaks TLS: ask with https://\n")


def test_a_silent_handshake_holds_up_nobody_and_is_cut(
    made: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.5)
    context = ssl.create_default_context(cafile=made.ca)
    with serving(made.config(TLS)) as running, ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(running.address, WAIT_SECONDS))
            for _ in range(5)
        ]
        silent[0].sendall(b"\x16\x03\x01\x02")
        assert ask(running, context=context)[0].status == 200
        assert [client.recv(1) for client in silent] == [b""] * 5


def test_an_evicted_tls_connection_stays_encrypted(made: Certificates) -> None:
    """SSLSocket.shutdown forgets the TLS state, and the thread would go on in plain text."""
    context = WebConfigFile(made.config(TLS)).current.tls
    assert context is not None
    mine, other = socket.socketpair()
    with mine, other:
        connection = Connection(mine, "127.0.0.1", WAIT_SECONDS)
        connections = Connections(8, Refusals())
        assert connections.admit(connection)
        with connections.encrypt(connection, context) as encrypted:
            connections.shut_all()
            assert encrypted._sslobj is not None  # type: ignore[attr-defined]
            assert other.recv(1) == b""


def test_without_a_password_the_answer_asks_for_one(made: Certificates) -> None:
    with serving(made.config(USERS)) as running:
        response, body = ask(running)
        assert (response.status, body) == (401, b"log in with a name and a password\n")
        assert response.getheader("WWW-Authenticate", "").startswith('Basic realm="')
        assert refusals(running) == {}


@pytest.mark.parametrize("stored", HASHES)
def test_the_right_password_lets_in(made: Certificates, stored: str) -> None:
    with serving(made.config(f"basic_auth_users: {{{USER}: {stored}}}")) as running:
        assert ask(running, authorization())[0].status == 200


@pytest.mark.parametrize(
    "header",
    [
        authorization(password="wrong"),
        authorization(user="nobody"),
        authorization(password=PASSWORD + "\0"),
        {"Authorization": "Basic ="},
        {"Authorization": "Basic YWJj"},
        {"Authorization": "Bearer YWJj"},
    ],
)
def test_a_failed_log_in_is_slow_and_counted(
    made: Certificates, header: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler, "FAILED_LOGIN_SECONDS", 0.4)
    with serving(made.config(USERS)) as running:
        begun = time.monotonic()
        response, body = ask(running, header)
        assert time.monotonic() - begun > 0.4
        assert (response.status, body) == (401, b"wrong name or password\n")
        assert refusals(running) == {"login": 1}
        _, page = ask(running, authorization(), path="/metrics")
    assert b'lunatik_socket_exporter_refusals_total{reason="login"} 1\n' in page


def test_failed_log_ins_do_not_keep_a_known_client_out(made: Certificates) -> None:
    with serving(made.config(USERS)) as running, ExitStack() as stack:
        assert ask(running, authorization())[0].status == 200
        text = authorization(password="wrong")["Authorization"]
        for _ in range(2 * server.MAX_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(running.address, WAIT_SECONDS))
            client.sendall(f"GET / HTTP/1.1\r\nAuthorization: {text}\r\n\r\n".encode())
        assert ask(running, authorization())[0].status == 200


def test_a_password_that_was_right_is_not_right_after_a_change(made: Certificates) -> None:
    path = made.config(USERS)
    config = WebConfigFile(path)
    with MetricsServer(("127.0.0.1", 0), snapshot, config=config) as running:
        assert ask(running, authorization())[0].status == 200
        other = HASHES[0][:-1] + ("a" if HASHES[0][-1] != "a" else "b")
        made.config(f"basic_auth_users: {{{USER}: {other}}}")
        config.check()
        config.check()
        assert ask(running, authorization())[0].status == 401


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("evil.example", 403),
        ("evil.example:10435", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[::1", 403),
        ("[::1]x", 403),
        ("", 403),
        ("127.0.0.1", 200),
        ("127.0.0.1:10435", 200),
        ("10.9.8.7:80", 200),
        ("[::1]:10435", 200),
        ("localhost", 200),
        ("LOCALHOST.:10435", 200),
        ("metrics.example", 200),
        ("Metrics.Example:80", 200),
    ],
)
def test_the_host_name_on_loopback(host: str, expected: int) -> None:
    with serving(names=("metrics.example",)) as running:
        assert status(running, Host=host) == expected
        assert refusals(running) == ({} if expected == 200 else {"host": 1})


def test_two_host_headers_are_refused() -> None:
    with (
        serving() as running,
        socket.create_connection(running.address, WAIT_SECONDS) as client,
    ):
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_the_rate_limit(made: Certificates) -> None:
    with serving(made.config("rate_limit: {interval: 1h, burst: 2}")) as running:
        assert [status(running) for _ in range(3)] == [200, 200, 429]
        assert refusals(running) == {"rate": 1}


def test_configured_headers_are_in_every_answer(made: Certificates) -> None:
    header = "{Strict-Transport-Security: max-age=9, Content-Security-Policy: default-src 'none'}"
    with serving(made.config(f"http_server_config: {{headers: {header}}}")) as running:
        for path in ("/", "/metrics", "/none"):
            response, _ = ask(running, path=path)
            assert response.getheader("Strict-Transport-Security") == "max-age=9"
            assert response.headers.get_all("Content-Security-Policy") == ["default-src 'none'"]


@pytest.mark.parametrize(
    ("host", "config", "exposed"),
    [
        ("127.0.0.1", None, False),
        ("0.0.0.0", None, True),
        ("0.0.0.0", USERS, True),
        ("0.0.0.0", TLS, True),
        ("0.0.0.0", TLS + USERS, False),
        ("0.0.0.0", CLIENTS, False),
    ],
)
def test_exposed_is_beyond_loopback_without_tls_and_a_log_in(
    made: Certificates, host: str, config: str | None, exposed: bool
) -> None:
    with serving(None if config is None else made.config(config), host) as running:
        assert running.is_exposed is exposed


def test_no_thread_remains(made: Certificates) -> None:
    before = set(threading.enumerate())
    with serving(made.config(TLS + USERS)) as running:
        assert not re.search("000", curl(made, running)[1])
    assert set(threading.enumerate()) == before


def test_without_the_option_its_libraries_are_not_loaded() -> None:
    code = (
        "import sys, tracer.exporter.http.routes as routes\n"
        "with routes.MetricsServer(('127.0.0.1', 0), None):\n"
        "    print(sorted({'bcrypt', 'yaml'} & set(sys.modules)))"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=WAIT_SECONDS)
    assert found == "[]\n"
