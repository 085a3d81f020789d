"""Invariant 3: a tracer that dies, however it dies, leaves no probe, no map, no process behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.kernel.children import wait_until

TRACER = """
import sys
from tracer.config import Config
from tracer.session import Session
session = Session(Config())
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


def _start() -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", TRACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_sigkill_leaves_nothing() -> None:
    before = _loaded("prog"), _loaded("map"), _attached()
    process = _start()
    try:
        during = _loaded("prog"), _loaded("map"), _attached()
        assert len(during[0]) > len(before[0]) + 30
        assert len(during[1]) >= len(before[1]) + 5
        assert during[2] > before[2] + 60
        # The loader, with the compiler in it, is gone by now.
        assert _children_of(process.pid) == []
        libraries = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libbcc" not in libraries
        assert "libLLVM" not in libraries
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
    # The kernel frees programs after a grace period.
    wait_until(lambda: (_loaded("prog"), _loaded("map"), _attached()) == before, "all to be gone")


def test_stop_leaves_nothing() -> None:
    before = _loaded("prog"), _loaded("map"), _attached()
    process = _start()
    process.communicate(timeout=30)
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
        process.communicate(timeout=30)
    assert os.getpid()
