# SPDX-License-Identifier: MIT
"""An exporter in a process of its own, which serves a snapshot that never changes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["exporter"]

_SERVER = """
import sys
from tests.pure.tracer.snapshots import series, snapshot
from tracer.exporter.http.routes import MetricsServer
shown = snapshot(*(series(label=f"program-{i}") for i in range(30)), label_name="comm")
with MetricsServer(("127.0.0.1", 0), lambda: shown) as server:
    print(*server.address, flush=True)
    while line := sys.stdin.readline():
        kept = []
        if line == "use up the descriptors\\n":
            try:
                while True:
                    kept.append(open("/dev/null"))
            except OSError:
                pass
        print("done", flush=True)
"""


@contextmanager
def exporter(open_files: int = 1024) -> Iterator[tuple[tuple[str, int], "subprocess.Popen[str]"]]:
    """An exporter in a process of its own, with this limit of file descriptors."""
    with subprocess.Popen(
        ["prlimit", f"--nofile={open_files}", sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()
        yield (host, int(port)), process
