# SPDX-License-Identifier: MIT
"""Invariant 3: a tracer that ends in any way leaves no probe, no map and no process behind."""

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
from tracer.model.config import Config
from tracer.session import Session
session = Session(Config(mechanism=sys.argv[1], operations=tuple(sys.argv[2:])))
session.start()
print("ready", flush=True)
sys.stdin.read()
"""


def _loaded(kind: str) -> set[int]:
    """The ids of all of the kernel's programs, maps or links, by an independent tool."""
    output = subprocess.run(
        ["bpftool", kind, "show", "--json"], check=True, capture_output=True, timeout=60
    ).stdout
    return {item["id"] for item in json.loads(output or "[]")}


def _everything() -> set[tuple[str, int]]:
    """The ids of programs and maps. An attachment has no id and ends with both."""
    return {(kind, number) for kind in ("prog", "map", "link") for number in _loaded(kind)}


def _children_of(pid: int) -> list[str]:
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/stat")
        if path.exists() and path.read_text().rpartition(")")[2].split()[1] == str(pid)
    ]


def _start(mechanism: str = "tracepoint", *operations: str) -> "subprocess.Popen[str]":
    """A tracer of these operations, or of all. Few compile faster, which matters in the VM."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRACER, mechanism, *operations],
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
    before = _everything()
    process = _start(mechanism, "bind", "listen")
    try:
        new = _everything() - before
        assert {kind for kind, _ in new} >= {"prog", "map"}
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
    wait_until(lambda: not new & _everything(), "all to be gone")
    wait_until(lambda: _kprobe_events() == events, "the events to be gone")


def test_probes_of_a_dead_tracer_are_removed_and_those_of_a_live_one_stay() -> None:
    """Killed together with its guardian, a tracer leaves events; the next one removes them."""
    require("kprobe")
    events = _kprobe_events()
    live, dead = _start("kprobe", "bind"), _start("kprobe", "bind")
    try:
        [guardian] = _children_of(dead.pid)
        os.kill(int(guardian), signal.SIGKILL)
        dead.send_signal(signal.SIGKILL)
        dead.communicate(timeout=60)
        assert f"lunatik_{dead.pid}_" in _kprobe_events()
        third = _start("kprobe", "bind")
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
    before = _everything()
    process = _start("tracepoint", "bind", "listen")
    new = _everything() - before
    assert len(new) > 5
    process.communicate(timeout=60)
    assert process.returncode == 0
    wait_until(lambda: not new & _everything(), "all to be gone")


def test_tracer_stays_small() -> None:
    """bcc and its compiler would be over 100 MB; the bound leaves room for Python versions."""
    process = _start("tracepoint", "bind", "listen")
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
        assert int(resident) < 40 * 1024
    finally:
        process.communicate(timeout=60)
    assert os.getpid()
