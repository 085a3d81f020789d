# SPDX-License-Identifier: MIT
"""The process that runs one script: `main` is its entry point."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from .state import ENCODING, LuaMissingError, ScriptError, State

__all__ = ["main"]

_FAILED, _WRONG_USAGE, _REFUSED, _BROKEN_PIPE = 1, 2, 3, 128 + 13


def main() -> NoReturn:
    """Run a script and exit: 0, or 1 if it failed.

    The arguments are "sandbox" or "open", the memory limit in bytes (0: none), the path of the
    script, and the script's own arguments.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # The default action ends the process at once, also in a blocked call or a busy loop, and a
        # pcall cannot catch it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    kind, memory, script, *arguments = sys.argv[1:]
    sys.exit(_run(script, arguments, sandbox=kind == "sandbox", memory_bytes=int(memory) or None))


def _run(script: str, arguments: list[str], *, sandbox: bool, memory_bytes: int | None) -> int:
    try:
        source = Path(script).read_bytes()
    except OSError as error:
        hint = "give the path of a readable script"
        return _complain(f'cannot run "{script}": {error.strerror}; {hint}', _WRONG_USAGE)
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
    """Write a line at once, so that no printed line is lost when the script ends."""
    rest = memoryview(line.encode(ENCODING) + b"\n")
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except BrokenPipeError:
        os._exit(_BROKEN_PIPE)
