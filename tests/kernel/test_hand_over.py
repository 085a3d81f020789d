"""Invariant 3: a tracer that dies, however it dies, leaves no probe, no map, no process behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.children import wait_until
from tests.kernel.mechanisms import require

TRACER = """
import sys
from tracer.config import Config
from tracer.session import Session
session = Session(Config(mechanism=sys.argv[1]))
session.start()
print("ready", flush=True)
sys.stdin.read()
"""


def _loaded(kind: str) -> set[int]:
    """The ids of all programs or maps of the kernel, by bpftool: not by our own reading."""
    output = subprocess.run(
        ["bpftool", kind, "show", "--json"], check=True, capture_output=True, timeout=60
    ).stdout
    return {item["id"] for item in json.loads(output or "[]")}


def _attached() -> int:
    output = subprocess.run(
        ["bpftool", "perf", "show", "--json"], check=True, capture_output=True, timeout=60
    ).stdout
    return len(json.loads(output or "[]"))


def _children_of(pid: int) -> list[str]:
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.exists() and path.read_text().rpartition(")")[2].split()[1] == str(pid)
    ]


def _start(mechanism: str = "tracepoint") -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", TRACER, mechanism],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _kprobe_events() -> str:
    path = Path("/sys/kernel/tracing/kprobe_events")
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("mechanism", ["tracepoint", "kprobe", "fentry"])
def test_sigkill_leaves_nothing(mechanism: str) -> None:
    require(mechanism)
    events = _kprobe_events()
    before = _loaded("prog"), _loaded("map"), _attached()
    process = _start(mechanism)
    try:
        during = _loaded("prog"), _loaded("map"), _attached()
        assert len(during[0]) > len(before[0]) + 30
        assert len(during[1]) >= len(before[1]) + 5
        assert during[2] > before[2] + 60
        assert (_kprobe_events() != events) == (mechanism == "kprobe")
        # The loader, with the compiler in it, is gone by now; kprobes have their guardian.
        assert len(_children_of(process.pid)) == (mechanism == "kprobe")
        libraries = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libbcc" not in libraries
        assert "libLLVM" not in libraries
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    # The kernel frees programs after a grace period.
    wait_until(lambda: (_loaded("prog"), _loaded("map"), _attached()) == before, "all to be gone")
    wait_until(lambda: _kprobe_events() == events, "the events to be gone")


def test_what_a_dead_tracer_left_is_removed_and_a_live_ones_is_not() -> None:
    """Killed together with its guardian, a tracer leaves events; the next one removes them."""
    require("kprobe")
    events = _kprobe_events()
    live, dead = _start("kprobe"), _start("kprobe")
    try:
        [guardian] = _children_of(dead.pid)
        os.kill(int(guardian), signal.SIGKILL)
        dead.send_signal(signal.SIGKILL)
        dead.communicate(timeout=60)
        assert f"lunatik_{dead.pid}_" in _kprobe_events()
        third = _start("kprobe")
        assert f"lunatik_{dead.pid}_" not in _kprobe_events()
        assert f"lunatik_{live.pid}_" in _kprobe_events()
        third.communicate(timeout=60)
        assert third.returncode == 0
    finally:
        live.communicate(timeout=60)
        dead.kill()
        dead.wait()
    wait_until(lambda: _kprobe_events() == events, "the events to be gone")


def test_stop_leaves_nothing() -> None:
    before = _loaded("prog"), _loaded("map"), _attached()
    process = _start()
    process.communicate(timeout=60)
    assert process.returncode == 0
    wait_until(lambda: (_loaded("prog"), _loaded("map"), _attached()) == before, "all to be gone")


def test_tracer_stays_small() -> None:
    """bcc and its compiler would be over 100 MB; the bound leaves room for Python versions."""
    process = _start()
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        assert int(resident) < 40 * 1024
    finally:
        process.communicate(timeout=60)
    assert os.getpid()
