# SPDX-License-Identifier: MIT
"""Runs scripts in the sandbox, and with the language left open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "Ended", "ended", "run", "run_open"]

ROOT = Path(__file__).parents[4]
TIMEOUT_SECONDS = 60

# As from the command line, but Lua keeps all of its libraries, bytecode and Python. Only a test can
# say so: the settings of a command line cannot.
OPEN = """
import sys
from dataclasses import replace
from tracer.sandbox.command import run
from tracer.sandbox.settings import Settings
memory, seconds, script, *arguments = sys.argv[1:]
run(Settings(True, int(memory), int(seconds), as_lua_is=True), script, arguments)
"""

Ended = tuple[int, str, str]
"""Exit status, standard output and standard error."""


def run(script: Path, code: str, *options: str, sandbox: bool = True) -> Ended:
    """Run a script with `lunatik-socket run`, in the sandbox."""
    script.write_text(code)
    chosen = ("--sandbox", *options) if sandbox else options
    return ended(sys.executable, "-m", "tracer", "run", *chosen, str(script))


def run_open(script: Path, code: str, memory_bytes: int = 64 << 20, seconds: int = 30) -> Ended:
    """Run a script in the kernel's sandbox without the language's."""
    script.write_text(code)
    return ended(sys.executable, "-c", OPEN, str(memory_bytes), str(seconds), str(script))


def ended(*command: str, seconds: int = TIMEOUT_SECONDS) -> Ended:
    """Run a command without input for at most `seconds`; return how it ended."""
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=seconds,
        check=False,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")
