# SPDX-License-Identifier: MIT
"""The tracer with its exporter, as a process of its own: scraped, and its memory looked at."""

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
"""So many, before its memory is that of an exporter which has been at work."""

TRACE = [str(Path(sys.executable).with_name("lunatik-socket")), "trace"]
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Exporter:
    """The process, and where its metrics are."""

    pid: int
    url: str

    def scrape(self, times: int = SCRAPES) -> str:
        """Get the page so many times; returns the last one."""
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
    """Started with these options of `lunatik-socket trace`; ready when it says so."""
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
    raise RuntimeError("the tracer ended without saying where its metrics are")
