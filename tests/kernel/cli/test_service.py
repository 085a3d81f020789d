# SPDX-License-Identifier: MIT
"""`trace` as a service: it tells its state, takes a passed listener, and reloads on SIGHUP."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import PROGRAM, ROOT

START_SECONDS = 60


class Service:
    """A running `trace` and what it tells on the socket of its service manager."""

    def __init__(self, notify: socket.socket, listener: socket.socket) -> None:
        self.notify, self.listener = notify, listener
        script = 'LISTEN_PID=$$ LISTEN_FDS=1 WATCHDOG_PID=$$ exec "$@" 3<&50'
        environment = {"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "400000"}
        command = [*PROGRAM, "trace", "--quiet"]
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *command],
            pass_fds=[50],
            env=os.environ | environment,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def told(self, wanted: str) -> list[str]:
        """The next message with this line."""
        while True:
            lines = self.notify.recv(4096).decode().splitlines()
            if wanted in lines:
                return lines

    def scrape(self) -> bytes:
        connection = http.client.HTTPConnection(*self.listener.getsockname(), timeout=START_SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(fileno=os.dup2(listener.fileno(), 50)) as moved,
    ):
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(START_SECONDS)
        service = Service(notify, moved)
        yield service
        service.process.kill()
        service.process.communicate()


def test_a_service_tells_its_state_and_serves_on_the_passed_socket(service: Service) -> None:
    port = service.listener.getsockname()[1]
    status = f"STATUS=tracing every process; metrics on http://127.0.0.1:{port}/metrics"
    assert status in service.told("READY=1")
    assert b"lunatik_socket_operation_duration_seconds_count" in service.scrape()
    service.told("WATCHDOG=1")

    service.process.send_signal(signal.SIGHUP)
    service.told("RELOADING=1")
    assert status in service.told("READY=1")
    assert b"lunatik_socket_operation_duration_seconds_count" in service.scrape()

    service.process.terminate()
    service.told("STOPPING=1")
    _, errors = service.process.communicate(timeout=START_SECONDS)
    assert service.process.returncode == 0, errors
