# SPDX-License-Identifier: MIT
"""Python scripts in a sandbox. Modules are imported first, because no file can be opened later."""

from __future__ import annotations

import importlib
import importlib.machinery
import linecache
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import CodeType, ModuleType
from typing import NoReturn

__all__ = ["MODULES", "run", "set_up"]

MODULES = (
    *("lunatik_socket", "socket", "select", "selectors", "asyncio", "ipaddress", "struct"),
    *("array", "base64", "binascii", "bisect", "collections", "contextlib", "copy", "dataclasses"),
    *("datetime", "decimal", "enum", "errno", "fractions", "functools", "hashlib", "heapq"),
    *("hmac", "io", "itertools", "json", "logging", "math", "operator", "os", "queue", "random"),
    *("re", "secrets", "signal", "statistics", "string", "sys", "textwrap", "threading", "time"),
    *("traceback", "types", "typing", "urllib.parse", "uuid", "weakref", "zlib"),
)
"""What a script in a sandbox may import."""

_ENCODINGS = ("ascii", "idna", "latin_1", "utf_8", "utf_16", "utf_32", "unicode_escape")


class _Refusing(MetaPathFinder):
    """The last finder: what is not loaded by now cannot be."""

    def find_spec(self, name: str, path: object, target: object = None) -> NoReturn:  # noqa: ARG002
        raise ModuleNotFoundError(
            f'cannot import "{name}" in a sandbox; docs/sandbox.md lists what can be imported',
            name=name,
        )


def set_up() -> None:
    """Import every module of `MODULES`, and let no other be looked for in files."""
    for name in MODULES:
        importlib.import_module(name)
    for name in _ENCODINGS:
        importlib.import_module(f"encodings.{name}")
    sys.path[:] = []
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [
        importlib.machinery.BuiltinImporter,
        importlib.machinery.FrozenImporter,
        _Refusing(),
    ]


def run(code: CodeType, source: bytes, script: str, arguments: Sequence[str]) -> int:
    """Run the script as `__main__`; return its exit status, as Python would exit."""
    text = source.decode(errors="replace")
    # For the lines in a traceback.
    linecache.cache[script] = (len(source), None, text.splitlines(keepends=True), script)
    sys.argv = [script, *arguments]
    module = ModuleType("__main__")
    module.__dict__.update(__file__=script, __builtins__=__builtins__)
    sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)  # this is what the user asked for
    except SystemExit as end:
        return _status(end.code)
    except KeyboardInterrupt:
        return 130
    except BaseException as error:  # printed, as Python does
        shown = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, shown)
        return 1
    return 0


def _status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
