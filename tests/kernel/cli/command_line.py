# SPDX-License-Identifier: MIT
"""Run `lunatik-socket` as a user does, and read what it prints."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "HIDE_TRACEFS",
    "PROGRAM",
    "ROOT",
    "TIMEOUT_SECONDS",
    "counts",
    "free_port",
    "read_until",
    "run",
    "started",
]

TIMEOUT_SECONDS = 90
PROGRAM = [sys.executable, "-m", "tracer"]
ROOT = Path(__file__).parents[3]
# The start of a shell command that runs the rest without tracefs, in a mount namespace of its own.
HIDE_TRACEFS = "umount -l /sys/kernel/tracing /sys/kernel/debug/tracing 2>/dev/null; exec "


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run it to its end; its output is text."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        | options,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )


def counts(document: dict[str, Any]) -> dict[tuple[str, str], tuple[int, int, dict[str, int]]]:
    """Count, bytes and errors by operation and transport, of what `--json` printed."""
    return {
        (o["operation"], o["transport"]): (o["count"], o["bytes"], o["errors"])
        for o in document["operations"]
    }


@contextlib.contextmanager
def started(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run it in the background; it is killed when the block ends."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """The first line of its output that has this text."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"it ended without printing {text!r}")
