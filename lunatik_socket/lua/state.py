# SPDX-License-Identifier: MIT
"""A Lua state with the libraries `socket` and `data`. The only module that imports lupa.

A script calls a function of the `*.lua` files here. That calls a function of `calls.py` or
`memory.py`, which makes the system call. Only integers, strings and opaque handles cross between
the languages, never tables or attributes, so a script cannot reach Python's objects.
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

# In this encoding one byte is one character, so every Lua string can be converted, and back.
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
# Added to the script's limit for lupa's own conversions, which must not run out of memory.
_RESERVE_BYTES = 1 << 20

_log = logging.getLogger("lunatik_socket.lua")


class ScriptError(Exception):
    """A script failed. The message is Lua's, with a traceback if the script was started."""


class LuaMissingError(Exception):
    """The package lupa, which contains Lua, is not installed."""


def _log_line(line: str) -> None:
    _log.info("%s", line)


class State:
    """An independent Lua state.

    `sandbox`: scripts get no files, no processes, no environment and no bytecode. `memory_bytes`:
    the memory that scripts may use, data objects included; above it they get "not enough memory".
    `log` is called with each printed line, without the line end, one character for each byte
    (latin-1). Without `log` the lines go to Python's logger `lunatik_socket.lua`.
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
        """Run a script. `name` is its file name, for messages. Raises `ScriptError`.

        May be called several times: globals stay. An exception of a signal handler ends a blocked
        call, but the script may catch it like any error.
        """
        if source.startswith(b"#"):
            source = b"--" + source  # a first line with `#!` becomes a comment
        text = source.decode(ENCODING)
        passed = [os.fsencode(argument).decode(ENCODING) for argument in (f"@{name}", *arguments)]
        failure = self._run(text, *passed)
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            raise ScriptError(os.fsdecode(failure.encode(ENCODING)))


def _runtime(memory_bytes: int | None) -> Any:
    try:
        from lupa.lua54 import LuaRuntime  # noqa: PLC0415 - needed only to run Lua
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
