# SPDX-License-Identifier: MIT
"""A Lua state with the libraries `socket` and `data`; the one place that knows lupa.

The road of a call: the script calls a function of `*.lua` here, that calls a function of `calls.py`
or `memory.py`, and that makes the system call. What crosses from one language to the other are
integers, strings and handles, never a table or an attribute, so a script that misbehaves has
nothing of Python's to hold on to.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..options import level, optname
from .calls import CALLS, error_name
from .memory import Buffers

__all__ = ["LuaMissingError", "ScriptError", "State"]

# One byte is one character on the way: any bytes are a string, and any string of Lua's can pass.
ENCODING = "latin-1"
_OWN_SOURCE = "=lunatik_socket"
_PARTS = ("fail", "memory", "check", "bytes", "data", "socket", "environment")
_INTEGERS_ONLY = (
    "get",
    "set",
    "write",
    "bytes_of_data",
    "log",
    "exit",
)
# Beyond the script's limit, for what lupa needs on the way to and fro; it must never run out.
_RESERVE_BYTES = 1 << 20

_log = logging.getLogger("lunatik_socket.lua")


class ScriptError(Exception):
    """A script failed: the message is Lua's, with a traceback if it ran at all."""


class LuaMissingError(Exception):
    """There is no Lua to run a script with."""


def _log_line(line: str) -> None:
    _log.info("%s", line)


class State:
    """A Lua state of its own, with nothing of another's.

    `sandbox`: scripts get no files, no processes, no environment and no bytecode. `memory_bytes`:
    how much a script may use, its data objects included; beyond that it gets "not enough memory".
    `log` takes each line printed, without its end, each byte a character (latin-1); without it
    the line goes to Python's log, as `lunatik_socket.lua`.
    """

    def __init__(
        self,
        *,
        sandbox: bool = False,
        memory_bytes: int | None = None,
        log: Callable[[str], None] = _log_line,
    ) -> None:
        runtime = _runtime(memory_bytes)
        buffers = Buffers(counted=memory_bytes is not None)
        table = runtime.table_from
        parts = {name: runtime.compile(_source(name), name=_OWN_SOURCE) for name in _PARTS}
        settings = {
            "sandbox": sandbox,
            "limit": memory_bytes,
            "own_source": _OWN_SOURCE,
            "integers_only": table(dict.fromkeys(_INTEGERS_ONLY, True)),
            "level": table(dict(level)),
            "optname": table(dict(optname)),
        }
        calls = {**CALLS, **buffers.calls(), "error_name": error_name, "log": log, "exit": _exit}
        main = runtime.compile(_source("main"), name=_OWN_SOURCE)
        self._run = main(table(calls), table(parts), table(settings))

    def run(self, source: bytes, name: str = "script", arguments: Sequence[str] = ()) -> None:
        """Run a script; `name` is that of its file, for messages. Raises `ScriptError`.

        It may be called again: globals stay. A signal handler's exception ends a blocked call, but
        a script may catch it, as any error.
        """
        if source.startswith(b"#"):
            source = b"--" + source  # a script's first line may name its interpreter
        text = source.decode(ENCODING)
        passed = [os.fsencode(argument).decode(ENCODING) for argument in (f"@{name}", *arguments)]
        failure = self._run(text, *passed)
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            raise ScriptError(os.fsdecode(failure.encode(ENCODING)))


def _runtime(memory_bytes: int | None) -> Any:
    try:
        from lupa.lua54 import LuaRuntime  # noqa: PLC0415 - only who runs Lua needs it
    except ImportError as error:
        raise LuaMissingError(
            f"cannot run Lua: {error}; install the package lupa (pip install lupa)"
        ) from error
    return LuaRuntime(
        encoding=ENCODING,
        source_encoding=ENCODING,
        attribute_filter=_no_attribute,
        register_eval=False,
        register_builtins=False,
        unpack_returned_tuples=True,
        max_memory=None if memory_bytes is None else memory_bytes + _RESERVE_BYTES,
    )


def _no_attribute(_object: object, name: object, _is_setting: bool) -> NoReturn:
    raise AttributeError(f"no attribute {name!r}: this is a handle of Python's")


def _source(name: str) -> str:
    return (Path(__file__).parent / f"{name}.lua").read_text(encoding="ascii")


def _exit(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
