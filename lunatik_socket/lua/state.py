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
from .margin import Margin
from .memory import MEMORY_CALLS

__all__ = ["LuaMissingError", "ScriptError", "State"]

# Their results are objects of Python's that Lua holds.
# By name, with the position of the argument that says how much memory the call needs.
_MAKING = {
    **dict.fromkeys(("new", "accept", "poll", "segment", "field")),
    **{"new_data": 0, "new_data_from": 0, "recv_held": 1, "recvmsg": 1},
}
# In this encoding one byte is one character, so every Lua string can be converted, and back.
ENCODING = "latin-1"
_OWN_SOURCE = "=lunatik_socket"
_PARTS = ("fail", "memory", "check", "bytes", "data", "socket", "environment")
_INTEGERS_ONLY = (
    "get",
    "set",
    "log",
    "exit",
)

# Added to the script's limit for the libraries and for lupa's own conversions.
_RESERVE_BYTES = 1 << 19

_log = logging.getLogger("lunatik_socket.lua")


class ScriptError(Exception):
    """A script failed. The message is Lua's, with a traceback if the script was started."""


class LuaMissingError(Exception):
    """The package lupa, which contains Lua, is not installed."""


def _log_line(line: str) -> None:
    _log.info("%s", line)


class State:
    """An independent Lua state.

    `sandbox`: scripts get no files, no processes, no environment and no bytecode. This is a
    restriction of the language. `lunatik-socket run --sandbox` adds the kernel's. `log` is called
    with each printed line, without the line end, one character for each byte (latin-1). Without
    `log` the lines go to Python's logger `lunatik_socket.lua`.

    `memory_bytes` is for a process with a limit of its address space (`limit_address_space`): Lua
    itself gets this much, and at the limit scripts get "not enough memory".

    `as_lua_is` leaves Lua's own libraries as they are: files, processes, bytecode, all of `debug`,
    and Python through `python`. It is for tests of the kernel's sandbox, where the language must
    not be in the way.
    """

    def __init__(
        self,
        *,
        sandbox: bool = False,
        memory_bytes: int | None = None,
        log: Callable[[str], None] = _log_line,
        as_lua_is: bool = False,
    ) -> None:
        runtime = _runtime(memory_bytes, with_python=as_lua_is)
        table = runtime.table_from
        parts = {name: runtime.compile(_source(name), name=_OWN_SOURCE) for name in _PARTS}
        settings = {
            "sandbox": sandbox,
            "limited": memory_bytes is not None,
            "as_lua_is": as_lua_is,
            "own_source": _OWN_SOURCE,
            "integers_only": table(dict.fromkeys(_INTEGERS_ONLY, True)),
            "level": table(dict(level)),
            "optname": table(dict(optname)),
        }
        calls: dict[str, Callable[..., Any]] = {
            **CALLS,
            **MEMORY_CALLS,
            "error_name": error_name,
            "log": log,
            "exit": _exit,
        }
        if memory_bytes is not None:
            margin = Margin(memory_bytes)
            made = {name: margin.kept_by(calls[name], at) for name, at in _MAKING.items()}
            calls.update(made)
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


def _runtime(memory_bytes: int | None, *, with_python: bool) -> Any:
    try:
        from lupa.lua54 import LuaRuntime  # noqa: PLC0415 - needed only to run Lua
    except ImportError as error:
        raise LuaMissingError(
            f"cannot run Lua: {error}; install the package lupa (pip install lupa)"
        ) from error
    return LuaRuntime(
        encoding=ENCODING,
        source_encoding=ENCODING,
        attribute_filter=None if with_python else _no_attribute,
        register_eval=with_python,
        register_builtins=with_python,
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
