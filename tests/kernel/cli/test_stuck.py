# SPDX-License-Identifier: MIT
"""`lunatik-socket stuck` names the call, the process, the peer and what is waited for."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.kernel.cli.command_line import run

_PATIENCE_SECONDS = 60
# `us` and `them` are the ends of a connection; the process that has `them` does nothing with it.
_PREPARED = """
import os, select, socket, sys, threading, time
def pair(kind):
    if kind == "unix":
        return socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    return socket.create_connection(listener.getsockname()), listener.accept()[0]
us, them = pair(sys.argv[1])
peer = os.fork()
if peer == 0:
    us.close()
    time.sleep(600)
them.close()
print(peer, us.fileno(), flush=True)
"""
_CALLS = {
    "recv": "us.recv(1)",
    "send": "us.sendall(bytes(100_000_000))",
    "select": "us.settimeout(500); us.recv(1)",
}
_WAITS_FOR = {
    "recv": "data from the peer",
    "send": "room to send, because the peer does not read",
    "select": "data from the peer",
}


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start a Python script in a process group of its own, which ends with the test."""
    with ExitStack() as stack:

        def started(script: str, *arguments: str, before: tuple[str, ...] = ()) -> Any:
            child = subprocess.Popen(
                [*before, sys.executable, "-c", script, *arguments],
                stdout=subprocess.PIPE,
                text=True,
                process_group=0,
            )
            stack.callback(child.wait)
            stack.callback(os.killpg, child.pid, 9)
            assert child.stdout is not None
            stack.callback(child.stdout.close)
            return child

        yield started


def _stuck(*arguments: str, calls: int = 1) -> list[dict[str, Any]]:
    """What the command tells, as soon as it tells of so many calls."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        done = run("stuck", "--json", "--older", "100ms", *arguments)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["calls"]
        if len(found) >= calls or time.monotonic() > deadline:
            assert len(found) == calls
            return found


def _line(child: "subprocess.Popen[str]") -> list[int]:
    assert child.stdout is not None
    return [int(word) for word in child.stdout.readline().split()]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("operation", _CALLS)
def test_a_call_that_waits_for_its_peer(
    operation: str, kind: str, start: Callable[..., "subprocess.Popen[str]"]
) -> None:
    child = start(_PREPARED + _CALLS[operation], kind)
    peer, descriptor = _line(child)
    (call,) = _stuck("--pid", str(child.pid))
    assert (call["pid"], call["tid"], call["operation"]) == (child.pid, child.pid, operation)
    assert (call["descriptor"], call["transport"]) == (descriptor, kind)
    assert call["peer"]["pid"] == peer
    assert call["waits_for"] == _WAITS_FOR[operation]
    if operation == "send":
        assert call["local"]["send_queue"] > 0
        assert call["peer"]["receive_queue"] > 0
    assert call["stack"], "root may read the stack"


def test_a_peer_in_another_network_namespace(
    start: Callable[..., "subprocess.Popen[str]"],
) -> None:
    script = _PREPARED.replace(
        "import os", "import os; os.system('ip link set lo up')\nimport os", 1
    )
    child = start(script + _CALLS["recv"], "tcp", before=("unshare", "--net"))
    peer, _ = _line(child)
    (call,) = _stuck("--pid", str(child.pid))
    assert call["state"] == "ESTABLISHED"
    assert call["peer"]["pid"] == peer


def test_a_full_accept_queue(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    child = start(
        """
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=0)
others = [socket.socket() for _ in range(2)]
for other in others:
    other.setblocking(False)
    other.connect_ex(listener.getsockname())
print(listener.getsockname()[1], flush=True)
socket.create_connection(listener.getsockname())
"""
    )
    (port,) = _line(child)
    (call,) = _stuck("--pid", str(child.pid))
    assert (call["operation"], call["state"]) == ("connect", "SYN_SENT")
    assert call["waits_for"] == "a place in the accept queue, which is full"
    assert call["peer"]["address"] == f"127.0.0.1:{port}"
    assert call["peer"]["pid"] == child.pid


def test_one_hung_thread_of_two_hundred(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    """The others answer each other, or wait for work."""
    child = start(
        """
import os, select, socket, threading, time
def busy():
    one, two = socket.socketpair()
    while True:
        one.send(b"x")
        two.recv(1)
        time.sleep(0.05)
def idle():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.accept()
def hung():
    print(threading.get_native_id(), flush=True)
    receiver = socket.socket(type=socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.recv(1)
for work in [busy] * 100 + [idle] * 99 + [hung]:
    threading.Thread(target=work).start()
"""
    )
    (tid,) = _line(child)
    time.sleep(1)
    (call,) = _stuck("--pid", str(child.pid), "--older", "1s")
    assert (call["tid"], call["operation"], call["transport"]) == (tid, "recv", "udp")
    assert call["seconds"] >= 1


def test_threads_that_wait_for_work_are_counted_and_shown_on_request(
    start: Callable[..., "subprocess.Popen[str]"],
) -> None:
    child = start(
        """
import socket
listener = socket.create_server(("127.0.0.1", 0), backlog=7)
print(listener.getsockname()[1], flush=True)
listener.accept()
"""
    )
    (port,) = _line(child)
    (call,) = _stuck("--pid", str(child.pid), "--all")
    assert (call["operation"], call["local"]["address"]) == ("accept", f"127.0.0.1:{port}")
    shown = run("stuck", "--pid", str(child.pid), "--older", "100ms")
    assert shown.stdout.splitlines() == [
        "no call waits for that long",
        "1 thread waits for work (--all shows them)",
    ]
    everything = run("stuck", "--pid", str(child.pid), "--older", "100ms", "--all").stdout
    assert (
        f"accept on descriptor 3 waits for a connection\n         tcp LISTEN 127.0.0.1:{port}\n"
        in everything
    )
    assert "0 in the listener's accept queue, limit 7" in everything


def test_a_file_is_no_socket(start: Callable[..., "subprocess.Popen[str]"]) -> None:
    child = start("print(1, flush=True); open('/dev/ptmx', 'rb', buffering=0).read(1)")
    _line(child)
    time.sleep(0.3)
    assert _stuck("--pid", str(child.pid), "--all", calls=0) == []


def test_a_process_that_does_not_exist() -> None:
    done = run("stuck", "--pid", "999999999")
    assert done.returncode == 2
    assert "no such process" in done.stderr
