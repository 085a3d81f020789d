# SPDX-License-Identifier: MIT
"""Runs Lua scripts in a process of their own with a limit of its memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["printed_with_limit"]

ROOT = Path(__file__).parents[4]
TIMEOUT_SECONDS = 60


def printed_with_limit(directory: Path, code: str, megabytes: int, *options: str) -> list[str]:
    """Return the lines that a script prints, which may use this much memory."""
    script = directory / "script.lua"
    script.write_bytes(code.encode("latin-1"))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tracer", "run", "--memory", f"{megabytes}M", *options),
            str(script),
        ],
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode("latin-1").splitlines()
