# SPDX-License-Identifier: MIT
"""Running a script as a process of its own: `main` is all that the process does."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from .state import ENCODING, LuaMissingError, ScriptError, State

__all__ = ["main"]

_FAILED, _WRONG_CALL, _REFUSED, _NOBODY_READS = 1, 2, 3, 128 + 13


def main() -> NoReturn:
    """Run a script and exit: 0, or 1 if it failed.

    The arguments: "sandbox" or "open", the most bytes it may use or 0, its path, its own arguments.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # The kernel's own way to end it: at once, blocked or busy, whatever a pcall would catch.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    kind, memory, script, *arguments = sys.argv[1:]
    sys.exit(_run(script, arguments, sandbox=kind == "sandbox", memory_bytes=int(memory) or None))


def _run(script: str, arguments: list[str], *, sandbox: bool, memory_bytes: int | None) -> int:
    try:
        source = Path(script).read_bytes()
    except OSError as error:
        mend = "the path of a readable script is needed"
        return _complain(f'cannot run "{script}": {error.strerror}; {mend}', _WRONG_CALL)
    try:
        state = State(sandbox=sandbox, memory_bytes=memory_bytes, log=_print)
        state.run(source, script, arguments)
    except LuaMissingError as error:
        return _complain(str(error), _REFUSED)
    except ScriptError as error:
        return _complain(str(error), _FAILED)
    return 0


def _complain(text: str, status: int) -> int:
    message = os.fsencode(f"lunatik-socket: {text}\n")
    sys.stderr.buffer.write(message)
    sys.stderr.flush()
    return status


def _print(line: str) -> None:
    """Write a line of the script's at once: whatever ends it, nothing printed is lost."""
    rest = memoryview(line.encode(ENCODING) + b"\n")
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except BrokenPipeError:
        os._exit(_NOBODY_READS)
