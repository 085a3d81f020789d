# SPDX-License-Identifier: MIT
"""The tracer with its exporter in a process of its own, to scrape it and read its memory."""

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SCRAPES", "TRACE", "Exporter", "exporter"]

SCRAPES = 23
"""The number of scrapes before its memory is measured: an exporter in use has grown a little."""

TRACE = [str(Path(sys.executable).with_name("lunatik-socket")), "trace"]
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Exporter:
    """The process and the URL of its metrics."""

    pid: int
    url: str

    def scrape(self, times: int = SCRAPES) -> str:
        """Get the page this many times; returns the last one."""
        page = b""
        for _ in range(times):
            with urllib.request.urlopen(self.url, timeout=_TIMEOUT_SECONDS) as answer:
                page = answer.read()
        return page.decode()

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024 / 1e6


@contextmanager
def exporter(*options: str) -> Iterator[Exporter]:
    """Start `lunatik-socket trace` with these options, and yield it once it serves metrics."""
    with subprocess.Popen(
        [*TRACE, "--metrics", "127.0.0.1:0", "--interval", "3600", *options],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Exporter(process.pid, _address(process))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=_TIMEOUT_SECONDS)


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://\S+/metrics", line):
            return found[0]
    raise RuntimeError("the tracer ended without printing the address of its metrics")
