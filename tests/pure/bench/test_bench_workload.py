# SPDX-License-Identifier: MIT
"""The benchmarks' workload makes the calls that it reports, with its sockets open meanwhile."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.calls import Calls, Work, program

_SLICES = 23


@pytest.mark.parametrize(
    ("how", "pairs", "names", "calls"),
    [
        ("one", 1, ("sendto", "recvfrom"), 2300),
        ("one", 7, ("sendto", "recvfrom"), 2300),
        ("two", 1, ("sendto", "recvfrom"), 2300),
        ("many", 1, ("sendto", "recvfrom"), 92),
        ("many", 7, ("sendto", "recvfrom"), 92),
        ("bare", 1, ("getppid",), 2300),
    ],
)
def test_the_workload_makes_as_many_calls_as_it_reports_by_strace(
    how: str, pairs: int, names: tuple[str, ...], calls: int, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    done = subprocess.run(
        ["strace", "-f", "-o", log, "-e", "trace=sendto,recvfrom,getppid", program()],
        input=f"{how} tcp 1 {_SLICES} {pairs}\ngo\nclose\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    ready, answer = done.stdout.splitlines()
    assert ready == "ready"
    assert int(answer.split()[0]) == calls == Work(how, "tcp", 1, _SLICES, pairs).calls
    lines = log.read_text().splitlines()
    seen = {name: sum(f"{name}(" in line for line in lines) for name in names}
    assert seen == dict.fromkeys(names, calls // len(names))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_sockets_are_open_from_the_first_call_to_the_last(transport: str) -> None:
    seen = []

    @contextlib.contextmanager
    def watch() -> Iterator[None]:
        seen.append(_sockets(calls.pid))
        yield
        seen.append(_sockets(calls.pid))

    with Calls() as calls:
        before = _sockets(calls.pid)
        assert calls.ns_per_call(Work("one", transport, 64, _SLICES, 5), watch()) > 0
    assert (before, seen) == (0, [10, 10])


def test_an_impossible_order_is_an_error() -> None:
    with Calls() as calls, pytest.raises(RuntimeError, match=r"calls\.c is not ready"):
        calls.ns_per_call(Work("many", "tcp", 1, _SLICES, 501))


def _sockets(pid: int) -> int:
    links = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(link.startswith("socket:") for link in links)
