# SPDX-License-Identifier: MIT
"""The terminal hangs up while the tracer is its session's leader: tracer and child both end."""

import contextlib
import json
import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import PROGRAM, ROOT, TIMEOUT_SECONDS

QUICK = ("--no-metrics", "--operation", "bind", "--interval", "0.05")
# Binds 23 times, then prints without end; so the hang-up comes amid its output.
TALK = """
import socket, time
for _ in range(23):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("127.0.0.1", 0))
while True:
    print("ready", flush=True)
    time.sleep(0.01)
"""
# Ends itself after SIGHUP, with a status of its own.
TIDY_UP = """
import signal, sys
signal.signal(signal.SIGHUP, lambda *_: sys.exit(23))
print("ready", flush=True)
while True:
    signal.pause()
"""
# Prints its first lines only when the terminal has hung up.
LATE = """
import sys, time
from tracer.cli.entry import main
from tracer.process import hang_up
from tracer.terminal.view import LinesView
begin = LinesView.begin
def late(view, snapshot):
    print("ready", flush=True)
    while not hang_up._has_hung_up(1):
        time.sleep(0.01)
    begin(view, snapshot)
LinesView.begin = late
main(sys.argv[1:])
"""


def children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def read_until(terminal: int, text: bytes) -> None:
    seen = b""
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while text not in seen:
        assert time.monotonic() < give_up, seen
        # No read(2) may block when the terminal is closed: it would keep it open.
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)


def status_at_end(pid: int) -> int:
    """Wait for it; its exit status."""
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < give_up:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the tracer lives on after its terminal has hung up")


@pytest.mark.parametrize(
    ("arguments", "ready", "status"),
    [
        (("serve", "socks4", "--listen", "127.0.0.1:0", "--trace"), b"listening on", 0),
        (("trace", "--live", "--", sys.executable, "-c", TALK), b"ready\r\n", 129),
        (("trace", "--", sys.executable, "-c", TALK), b"ready\r\n", 129),
        (("trace", "--", sys.executable, "-c", TIDY_UP), b"ready\r\n", 23),
        (("trace",), b"every process", 0),
        (("trace", "--no-live"), b"every process", 0),
    ],
    ids=["serve", "live", "command", "tidy", "all", "lines"],
)
def test_a_hang_up_ends_the_tracer_and_its_child_and_the_json_is_written(
    arguments: tuple[str, ...], ready: bytes, status: int, tmp_path: Path
) -> None:
    output = tmp_path / "out.json"
    command, *rest = arguments
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.environ["TERM"] = "xterm-256color"
        at = 1 if command == "serve" else 0  # the options belong to `serve socks4`
        os.execv(
            PROGRAM[0],
            [*PROGRAM, command, *rest[:at], *QUICK, "--output", str(output), *rest[at:]],
        )
    children: list[int] = []
    try:
        read_until(terminal, ready)
        children = children_of(pid)
    finally:
        os.close(terminal)
    try:
        assert status_at_end(pid) == status
        alive = [child for child in children if Path(f"/proc/{child}").exists()]
        assert alive == []
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    document = json.loads(output.read_text())
    if TALK in arguments:
        assert [o["count"] for o in document["operations"] if o["operation"] == "bind"] == [23]


def test_a_hang_up_before_the_first_line_is_printed(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(ROOT)
        trace = ["trace", "--no-live", *QUICK, "--output", str(output)]
        os.execv(sys.executable, [sys.executable, "-c", LATE, *trace])
    try:
        read_until(terminal, b"ready\r\n")
    finally:
        os.close(terminal)
    assert status_at_end(pid) == 0
    assert "operations" in json.loads(output.read_text())
