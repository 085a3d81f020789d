# SPDX-License-Identifier: MIT
"""A tracer that is stopped and continued goes on, and loses nothing."""

import json
import signal
import subprocess
import sys
import time

from tests.kernel.cli.test_cli_trace import TIMEOUT_SECONDS, counts, started
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
