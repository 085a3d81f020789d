# SPDX-License-Identifier: MIT
"""The protocols of sd_notify(3) and sd_listen_fds(3), over real sockets."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.process.service_manager import ServiceManager

WAIT_SECONDS = 20

# Reports the listener that it was passed, the error, or None.
PASSED = """
import os
from tracer.errors import UsageError
from tracer.process.service_manager import passed_listener
try:
    listener = passed_listener()
    print(listener and listener.getsockname(), os.environ.get("LISTEN_FDS"))
    print(listener and os.get_inheritable(listener.fileno()))
except UsageError as error:
    print(error)
"""


@pytest.fixture
def manager_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(str(tmp_path / "notify"))
        own.settimeout(WAIT_SECONDS)
        yield own


def received(own: socket.socket) -> list[str]:
    return own.recv(4096).decode().splitlines()


def test_each_step_is_told(manager_socket: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager_socket.getsockname())
    manager = ServiceManager()
    manager.ready("works")
    assert received(manager_socket) == ["READY=1", "STATUS=works"]
    manager.reloading()
    first, second = received(manager_socket)
    assert first == "RELOADING=1"
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()
    manager.stopping()
    assert received(manager_socket)[0] == "STOPPING=1"


def test_an_abstract_address_works(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"lunatik-socket-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.bind(f"\0{name}")
        own.settimeout(WAIT_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        ServiceManager().ready()
        assert received(own) == ["READY=1"]


def test_the_watchdog_is_told_at_half_its_time(
    manager_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager_socket.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    manager = ServiceManager()
    assert manager.alive_seconds == 15
    manager.alive()
    assert received(manager_socket) == ["WATCHDOG=1"]


def test_the_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert ServiceManager().alive_seconds is None


def test_without_a_service_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    manager = ServiceManager()
    assert not manager.is_there
    manager.ready()
    manager.alive()


def test_a_service_manager_that_is_gone_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    ServiceManager().ready()


def test_a_started_command_does_not_see_the_service_manager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    ServiceManager()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)


def passed(*sockets: socket.socket, pid: str = "$$", count: int | None = None) -> str:
    """What a process says that these sockets are passed to, as descriptors 3, 4, …"""
    moves = "".join(f" {number}<&{own.fileno()}" for number, own in enumerate(sockets, 3))
    count = len(sockets) if count is None else count
    script = f'LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES=metrics exec "$@"{moves}'
    return subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-c", PASSED],
        pass_fds=[own.fileno() for own in sockets],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
        cwd=Path(__file__).parents[4],
    ).stdout


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with (
        socket.create_server(("127.0.0.1", 0)) as own,
        socket.socket(fileno=os.dup2(own.fileno(), 50)) as moved,  # not descriptor 3 or 4
    ):
        yield moved


def test_a_passed_listener_is_taken_and_not_inherited(listener: socket.socket) -> None:
    assert passed(listener).splitlines() == [f"{listener.getsockname()} None", "False"]


def test_the_sockets_of_another_process_are_left_alone(listener: socket.socket) -> None:
    assert passed(listener, pid="1").startswith("None")


def test_no_socket_passed_is_none(listener: socket.socket) -> None:
    assert passed(listener, count=0).startswith("None")


def test_two_sockets_are_an_error(listener: socket.socket) -> None:
    assert passed(listener, listener) == (
        'cannot use the socket of the service manager for "metrics": it passed 2 (metrics); '
        "give the socket unit one ListenStream=\n"
    )


def test_a_socket_that_does_not_listen_is_an_error() -> None:
    with socket.socket() as own, socket.socket(fileno=os.dup2(own.fileno(), 50)) as moved:
        assert passed(moved) == (
            'cannot use the socket of the service manager for "metrics": it does not listen on '
            "TCP; use ListenStream=ADDR:PORT, Accept=no\n"
        )
