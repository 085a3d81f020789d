# SPDX-License-Identifier: MIT
"""`observe` as a user runs it: one command, three addresses, one Ctrl-C.

It runs in a network namespace of its own, where its usual ports are free.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.children import TIMEOUT_SECONDS, wait_until

pytestmark = pytest.mark.skipif(
    "LUNATIK_SOCKET_RING" in os.environ,
    reason="Prometheus and browsers are no matter of the kernel: `make test` runs this on the host",
)

ROOT = Path(__file__).parents[3]
COUNT = "lunatik_socket_operation_duration_seconds_count"


class Observed:
    """The running command, and what answers in its namespace."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        script = 'ip link set lo up && exec "$0" -m tracer observe "$@"'
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script, sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            start_new_session=True,
            env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin", "TMPDIR": str(directory)},
        )

    def lines_until(self, last: str) -> list[str]:
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith(last):
                return lines
        raise AssertionError(f"it ended: {lines}")

    def get(self, url: str) -> str:
        """Fetch it, in the command's namespace."""
        inside = ["nsenter", "--net", "--target", str(self.process.pid)]
        done = subprocess.run(
            [*inside, "curl", "--silent", "--fail", "--max-time", "10", url],
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
        return done.stdout

    def end(self, number: int) -> int:
        """Signal it and all it started, as a terminal does, if they still run; and wait."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        status = self.process.wait(TIMEOUT_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def observed(tmp_path: Path) -> Iterator[Observed]:
    running = Observed(tmp_path)
    yield running
    running.end(signal.SIGKILL)


def sends(text: str) -> float:
    """The count of TCP sends in a /metrics page."""
    labels = 'operation="send",path="user",transport="tcp"'
    found = re.search(rf"^{COUNT}\{{{labels}\}} (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def test_page_metrics_and_prometheus_show_the_same_numbers(
    observed: Observed, tmp_path: Path
) -> None:
    lines = observed.lines_until("Ctrl-C")
    addresses = dict(re.split(r"\s{2,}", line) for line in lines[:-1])
    assert "<title>lunatik-socket</title>" in observed.get(addresses["live page"])
    before = sends(observed.get(addresses["metrics"]))
    base = addresses["Prometheus"].partition("/graph")[0]
    query = f'{COUNT}{{operation="send",path="user",transport="tcp"}}'
    url = f"{base}/api/v1/query?{urllib.parse.urlencode({'query': query})}"

    def scraped() -> float:
        result = json.loads(observed.get(url))["data"]["result"]
        return float(result[0]["value"][1]) if result else 0

    wait_until(lambda: scraped() >= max(before, 1), "a scrape")
    assert before <= scraped() <= sends(observed.get(addresses["metrics"]))
    rules = json.loads(observed.get(f"{base}/api/v1/rules"))["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
    # Ctrl-C ends all of it, and leaves nothing behind.
    assert observed.end(signal.SIGINT) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    observed = Observed(tmp_path, "--prometheus", "127.0.0.1:10435")
    output, _ = observed.process.communicate(timeout=TIMEOUT_SECONDS)
    assert observed.process.returncode == 3
    assert output == (
        'lunatik-socket: cannot start Prometheus on "127.0.0.1:10435": listen tcp 127.0.0.1:10435: '
        "bind: address already in use; choose another with --prometheus\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_sigkill_leaves_neither_process_nor_file(tmp_path: Path) -> None:
    observed = Observed(tmp_path)
    try:
        observed.lines_until("Ctrl-C")
        assert list(tmp_path.iterdir()) != []
        observed.process.kill()
        observed.process.wait(TIMEOUT_SECONDS)
        wait_until(lambda: list(tmp_path.iterdir()) == [], "an empty temporary directory")
    finally:
        observed.end(signal.SIGKILL)
    wait_until(lambda: not processes_that_name(tmp_path), "the end of every process")


def processes_that_name(directory: Path) -> list[str]:
    """The command lines of all processes that mention this directory."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(directory) in (text := file.read_bytes().replace(b"\0", b" ").decode()):
                found.append(text)
    return found
