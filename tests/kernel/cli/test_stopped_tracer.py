# SPDX-License-Identifier: MIT
"""A tracer that is stopped and continued goes on, and loses nothing.

`make test-stops` runs the tests under load with 1,000 cycles each instead of 10.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import PROGRAM, ROOT, TIMEOUT_SECONDS, counts, started
from tests.pure.tracer.process.test_signals import wait_for_state

# Sends 23 datagrams for each line of input.
WORKLOAD = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("127.0.0.1", 0))
for _ in sys.stdin:
    for _ in range(23):
        one.sendto(b"abc", one.getsockname())
        one.recv(10)
    print("sent", flush=True)
"""
CYCLES = 10
CYCLES_UNDER_LOAD = int(os.environ.get("STOP_CYCLES", "10"))
SHORTEST_STOP_SECONDS, LONGEST_STOP_SECONDS = 0.002, 0.1
INTERVAL_SECONDS = 0.02  # most stops are longer

# Sends and receives without pause from two threads until SIGTERM; then prints how many sends.
LOAD = """
import signal, socket, threading
going_on, sent = True, []
def end(*_):
    global going_on
    going_on = False
signal.signal(signal.SIGTERM, end)
def load():
    one, other = socket.socketpair()
    count = 0
    while going_on:
        one.send(b"abc")
        other.recv(10)
        count += 1
    sent.append(count)
threads = [threading.Thread(target=load) for _ in range(2)]
print("ready", flush=True)
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(sent), flush=True)
"""


def test_stops_longer_than_the_interval_neither_end_nor_disturb_a_trace() -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", WORKLOAD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as workload,
        started(
            *("trace", "--no-metrics", "--json", "--interval", "0.05", "--pid", str(workload.pid))
        ) as process,
    ):
        assert workload.stdin is not None
        assert workload.stdout is not None
        assert process.stderr is not None
        assert f"tracing process {workload.pid}" in process.stderr.readline()
        for _ in range(CYCLES):
            process.send_signal(signal.SIGSTOP)
            wait_for_state(process.pid, "T")
            workload.stdin.write("go\n")
            assert workload.stdout.readline() == "sent\n"
            time.sleep(0.1)  # the point of the test: longer than the interval
            process.send_signal(signal.SIGCONT)
            wait_for_state(process.pid, "S")
        assert process.poll() is None
        workload.communicate()
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, "Traceback" in stderr) == (0, False)
    assert counts(json.loads(stdout))["send", "udp"] == (23 * CYCLES, 69 * CYCLES, {})


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of its own that can be frozen."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    root = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    if root is None:
        pytest.skip("cgroup2 is not mounted")
    made = root / f"lunatik-socket-test-{os.getpid()}"
    made.mkdir()
    yield made
    freeze(made, on=False)
    (made / "cgroup.kill").write_text("1")
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while "populated 1" in (made / "cgroup.events").read_text():
        assert time.monotonic() < give_up
        time.sleep(0.01)
    made.rmdir()


def freeze(cgroup: Path, *, on: bool) -> None:
    """Freeze or thaw it, and wait until the kernel has done so."""
    (cgroup / "cgroup.freeze").write_text(str(int(on)))
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while f"frozen {int(on)}" not in (cgroup / "cgroup.events").read_text():
        assert time.monotonic() < give_up
        time.sleep(0.001)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    wait_for_state(pid, "T")
    yield
    os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def frozen(cgroup: Path) -> Iterator[None]:
    freeze(cgroup, on=True)
    yield
    freeze(cgroup, on=False)


@contextlib.contextmanager
def tracing_load(output: Path, cgroup: Path | None = None) -> Iterator["subprocess.Popen[str]"]:
    """A tracer of LOAD, which has begun; both in `cgroup` if given."""
    place = f"echo $$ > {cgroup}/cgroup.procs; " if cgroup else ""
    command = [*PROGRAM, "trace", "--quiet", "--output", str(output)]
    command += ["--interval", str(INTERVAL_SECONDS), "--", sys.executable, "-c", LOAD]
    with subprocess.Popen(
        ["sh", "-c", place + 'exec "$@"', "sh", *command],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def cycle(stop: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
    """Stop and continue, for times that repeat from run to run."""
    choice = random.Random(23)
    for _ in range(CYCLES_UNDER_LOAD):
        with stop():
            time.sleep(choice.uniform(SHORTEST_STOP_SECONDS, LONGEST_STOP_SECONDS))
        time.sleep(choice.uniform(0, SHORTEST_STOP_SECONDS))


def end_and_check(process: "subprocess.Popen[str]", output: Path) -> None:
    """The tracer passes SIGTERM on; the command ends by itself, and every call was counted."""
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0
    document = json.loads(output.read_text())
    sent = int(printed)
    assert sent > 0
    assert counts(document)["send", "unix"] == (sent, 3 * sent, {})
    assert counts(document)["recv", "unix"] == (sent, 3 * sent, {})
    assert not any(document["tracer"]["lost"].values())


def test_stops_of_the_tracer_of_a_command_under_load(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    with tracing_load(output) as process:
        cycle(lambda: stopped(process.pid))
        end_and_check(process, output)


def test_freezing_tracer_and_command_under_load(tmp_path: Path, cgroup: Path) -> None:
    output = tmp_path / "out.json"
    with tracing_load(output, cgroup) as process:
        cycle(lambda: frozen(cgroup))
        end_and_check(process, output)
