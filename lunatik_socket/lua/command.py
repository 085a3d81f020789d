# SPDX-License-Identifier: MIT
"""A script as a process runs it: lines to standard output, failures to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from .state import ENCODING, ScriptError, State

__all__ = ["prepare"]

_FAILED, _BROKEN_PIPE = 1, 128 + 13


def prepare(
    source: bytes,
    script: str,
    arguments: Sequence[str],
    *,
    sandbox: bool,
    memory_bytes: int | None = None,
    as_lua_is: bool = False,
) -> Callable[[], int]:
    """Return a function that runs the script once and returns its exit status: 0 or 1.

    The function opens no file. `script` is the path, for messages. See `State` for the rest.
    """
    state = State(sandbox=sandbox, memory_bytes=memory_bytes, log=_print, as_lua_is=as_lua_is)
    return lambda: _run(state, source, script, arguments)


def _run(state: State, source: bytes, script: str, arguments: Sequence[str]) -> int:
    try:
        state.run(source, script, arguments)
    except ScriptError as error:
        return _failed(str(error))
    except MemoryError:
        return _failed("not enough memory")
    except Exception as error:  # of lupa or of its use: still the script's failure
        return _failed(f"{type(error).__name__}: {error}")
    return 0


def _failed(text: str) -> int:
    message = os.fsencode(f"lunatik-socket: {text}\n")
    sys.stderr.buffer.write(message)
    sys.stderr.flush()
    return _FAILED


def _print(line: str) -> None:
    """Write a line at once, so that no printed line is lost when the script ends."""
    rest = memoryview(line.encode(ENCODING) + b"\n")
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except BrokenPipeError:
        os._exit(_BROKEN_PIPE)
