# SPDX-License-Identifier: MIT
"""Sockets used inside the kernel: an NVMe/TCP target and host on loopback, from stock modules.

An independent count by bpftrace runs beside ours; the two must be equal, call for call and byte for
byte, for every function that either saw.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.children import wait_until
from tests.kernel.mechanisms import require
from tests.vm.nvme_tcp_loop import NvmeTcpLoop, missing
from tracer.model.config import Config
from tracer.model.operations import FUNCTIONS
from tracer.model.snapshot import Snapshot, difference
from tracer.session import Session

READS = 257  # a prime
# Functions that calls of user space do not pass, so that other processes do not matter.
IN_KERNEL = [f.name for f in FUNCTIONS if not f.serves_user_too and f.name != "sock_create"]


@pytest.fixture(scope="module")
def modules() -> None:
    if reason := missing():
        if os.environ.get("LUNATIK_SOCKET_RING", "").startswith("kernel/"):
            pytest.fail(reason)
        pytest.skip(reason)


class Bpftrace:
    """What bpftrace counted: calls by function, and the sum of positive returns."""

    calls: Counter[str]
    bytes: Counter[str]


@contextmanager
def bpftrace(functions: list[str]) -> Iterator[Bpftrace]:
    lines = []
    for name in functions:
        lines += [
            f'kprobe:{name} {{ @calls["{name}"] = count(); }}',
            f'kretprobe:{name} /(int32)retval > 0/ {{ @bytes["{name}"] = sum((int32)retval); }}',
        ]
    process = subprocess.Popen(
        ["bpftrace", "-q", "-f", "json", "-e", "\n".join(lines)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    result = Bpftrace()
    try:
        wait_until(lambda: _attached(process, functions), "bpftrace to attach")
        yield result
    finally:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    maps = {
        name: value
        for line in output.splitlines()
        if line.startswith('{"type": "map"')
        for name, value in json.loads(line)["data"].items()
    }
    result.calls = Counter(maps.get("@calls", {}))
    result.bytes = Counter(maps.get("@bytes", {}))


def _attached(process: "subprocess.Popen[str]", functions: list[str]) -> bool:
    assert process.poll() is None, process.communicate()
    shown = subprocess.run(
        ["bpftool", "perf", "show", "--json"], check=True, capture_output=True, timeout=60
    ).stdout
    own = [item for item in json.loads(shown or "[]") if item["pid"] == process.pid]
    return len(own) >= 2 * len(functions)


def _present(functions: list[str]) -> list[str]:
    symbols = {line.split()[2] for line in Path("/proc/kallsyms").read_text().splitlines()}
    return [name for name in functions if name in symbols]


@pytest.mark.parametrize("mechanism", ["fentry", "kprobe"])
@pytest.mark.usefixtures("modules")
def test_every_call_of_an_nvme_loop(mechanism: str) -> None:
    require(mechanism)
    functions = _present(IN_KERNEL)
    with Session(Config(mechanism=mechanism)) as session:
        with bpftrace(functions) as theirs:
            before = session.snapshot()
            with NvmeTcpLoop() as loop:
                assert loop.read(READS) == READS * 4096
            after = session.snapshot()
        failures = session.failures
    ours = difference(before, after)
    assert after.lost == before.lost

    calls = dict.fromkeys(functions, 0)
    moved = dict.fromkeys(functions, 0)
    for series in ours.functions:
        if series.name in calls:
            calls[series.name] += series.aggregate.count
            moved[series.name] += series.aggregate.bytes
    assert calls == {name: theirs.calls[name] for name in functions}
    with_bytes = [f.name for f in FUNCTIONS if f.returns_bytes and f.name in moved]
    assert {n: moved[n] for n in with_bytes} == {n: theirs.bytes[n] for n in with_bytes}
    assert not set(failures) & set(functions)

    _assert_operations(ours, theirs)
    print({name: number for name, number in calls.items() if number})


def _assert_operations(ours: Snapshot, theirs: Bpftrace) -> None:
    """The same numbers under the operations' names, with plausible times."""
    for operation, functions in {
        "accept": ["kernel_accept"],
        "connect": ["kernel_connect"],
        "close": ["sock_release"],
        "sendmsg": ["kernel_sendmsg"],
        "recvmsg": ["kernel_recvmsg"],
    }.items():
        total = ours.total(operation, "kernel")
        assert total.count == sum(theirs.calls[name] for name in functions), operation
        if total.count:
            assert total.sum_ns > 0
            assert sum(total.slots) == total.count
    # One connection of the admin queue and one for each of the I/O queues. From 6.7 on or so the
    # host gives its sockets files and closes those: only the listener is released.
    assert ours.total("connect", "kernel").count >= 2
    assert ours.total("close", "kernel").count >= 1
    # The target accepts until no connection waits: its last call gets EAGAIN.
    assert ours.total("accept", "kernel").errors.get("EAGAIN", 0) >= 1


@pytest.mark.usefixtures("modules")
def test_the_command_line_shows_it(tmp_path: Path) -> None:
    """`trace --all` beside the loop: in-kernel receives in the thousands, with times and bytes."""
    require("fentry")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    output = tmp_path / "numbers.json"
    tracer = subprocess.Popen(
        [
            *(sys.executable, "-m", "tracer", "trace", "--all", "--quiet"),
            *("--metrics", address, "--output", str(output)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _serves(address), "the tracer to be ready")
        with NvmeTcpLoop() as loop:
            loop.read(1009)
        metrics = urllib.request.urlopen(f"http://{address}/metrics", timeout=60).read().decode()
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=120)
    numbers = json.loads(output.read_text())
    [received] = [
        entry
        for entry in numbers["operations"]
        if (entry["operation"], entry["path"], entry["transport"]) == ("recvmsg", "kernel", "tcp")
    ]
    assert received["count"] > 2000
    assert received["bytes"] >= 1009 * 72  # the target receives a command of 72 bytes for each read
    assert received["p50_seconds"] > 0
    functions = {entry["function"] for entry in numbers["functions"]}
    assert {"kernel_recvmsg", "kernel_sendmsg", "sock_release"} <= functions
    assert 'operation="recvmsg",path="kernel",transport="tcp"' in metrics


def _serves(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
