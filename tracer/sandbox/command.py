# SPDX-License-Identifier: MIT
"""The process that `lunatik-socket run` starts for a script with limits, and for every Lua script.

Without a sandbox, it runs the script itself. With one, it forks: the child is confined and runs the
script, and this process supervises it (supervisor.py).
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lunatik_socket.lua.command import prepare as prepare_lua
from lunatik_socket.lua.margin import limit_address_space
from lunatik_socket.lua.state import LuaMissingError
from tracer.errors import TracerError, UnsupportedError, UsageError

from . import python_script
from .confined import complain, leave, run_confined
from .limits import limit_cpu
from .settings import Settings

__all__ = ["main", "run"]


def main() -> NoReturn:
    """Run a script and exit with its status.

    The arguments are the settings, the path of the script, and the script's own arguments.
    """
    text, script, *arguments = sys.argv[1:]
    run(Settings.from_text(text), script, arguments)


def run(settings: Settings, script: str, arguments: list[str]) -> NoReturn:
    """Run a script in this process, or in a confined child of it. Ends the process."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # The default action ends the process at once, also in a blocked call or a busy loop, and a
        # script cannot catch it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        source = _source(script)

        def prepare() -> Callable[[], int]:
            return _prepared(settings, source, script, arguments)

        if settings.sandbox:
            run_confined(prepare, settings)
        body = prepare()
        if settings.memory_bytes is not None:
            limit_address_space(settings.memory_bytes)
        if settings.cpu_seconds is not None:
            limit_cpu(settings.cpu_seconds)
        status = body()
    except TracerError as error:
        status = complain(error)
    leave(status)


def _source(script: str) -> bytes:
    try:
        return Path(script).read_bytes()
    except OSError as error:
        raise UsageError.of(error, "run", script, "give the path of a readable script") from error


def _prepared(
    settings: Settings, source: bytes, script: str, arguments: list[str]
) -> Callable[[], int]:
    """Return a function that runs the script, and needs no file for that."""
    if script.endswith(".lua"):
        return _prepared_lua(settings, source, script, arguments)
    code = compile(source, script, "exec", dont_inherit=True)
    if settings.sandbox:
        python_script.set_up()
    else:
        sys.path.insert(0, str(Path(script).resolve().parent))  # as Python does
    return lambda: python_script.run(code, source, script, arguments)


def _prepared_lua(
    settings: Settings, source: bytes, script: str, arguments: list[str]
) -> Callable[[], int]:
    try:
        return prepare_lua(
            source,
            script,
            arguments,
            sandbox=settings.sandbox,
            memory_bytes=settings.memory_bytes,
            as_lua_is=settings.as_lua_is,
        )
    except LuaMissingError as error:
        raise UnsupportedError("run", script, str(error)) from error
