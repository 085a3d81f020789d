# SPDX-License-Identifier: MIT
"""Keeps some memory free for Python in a process that has a limit (RLIMIT_AS).

The kernel enforces the limit. This only keeps the end graceful: lupa can crash if Python runs out
of memory while lupa converts values. So Lua's allocator stops earlier, and a call that makes an
object fails while there is still memory for everything around it.
"""

from __future__ import annotations

import functools
import mmap
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Margin", "limit_address_space"]

_LEAST_BYTES = 1 << 20  # one arena of Python's allocator
_OBJECT_BYTES = 1024  # more than Python, lupa and Lua need for one
_PIECE_BYTES = 1 << 15
_NO_MEMORY = "not enough memory"
_PART = 8  # lupa keeps all objects that Lua holds in one set, which takes a part of the memory


def limit_address_space(memory_bytes: int, pid: int | None = None) -> None:
    """Let a process use `memory_bytes` more than now, and a margin, but never more (RLIMIT_AS).

    What is mapped already, such as Python itself, does not count. `pid`: not this process.
    """
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + memory_bytes + _margin_bytes(memory_bytes)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.prlimit(pid or 0, resource.RLIMIT_AS, (most, most))


def _margin_bytes(memory_bytes: int) -> int:
    return _LEAST_BYTES + memory_bytes // _PART


class Margin:
    """The margin of a script that may use `memory_bytes`."""

    def __init__(self, memory_bytes: int) -> None:
        self._bytes = _margin_bytes(memory_bytes)
        self._unchecked_bytes = 0  # that may be used before the next look

    def kept_by(self, call: Callable[..., Any], size_at: int | None) -> Callable[..., Any]:
        """Return `call`, which answers "not enough memory" if it would use the margin.

        `size_at` is the position of the argument that says how much it needs: bytes, or a text.
        """

        @functools.wraps(call)
        def careful(*arguments: Any) -> Any:
            size = 0 if size_at is None else arguments[size_at]
            size = len(size) if isinstance(size, str) else max(size, 0)
            return call(*arguments) if self._has(size + _OBJECT_BYTES) else (False, _NO_MEMORY)

        return careful

    def _has(self, size: int) -> bool:
        if size > self._unchecked_bytes:
            if not (_is_unmapped(self._bytes + size) or _is_free(self._bytes, size)):
                return False
            self._unchecked_bytes = size + self._bytes // 4
        self._unchecked_bytes -= size
        return True


def _is_unmapped(size: int) -> bool:
    """Whether the process may have `size` bytes more. Takes a few microseconds."""
    try:
        mmap.mmap(-1, size).close()
    except (OSError, OverflowError):
        return False
    return True


def _is_free(margin: int, size: int) -> bool:
    """Whether both are free inside malloc, which keeps most of what was freed."""
    try:
        _held = [bytes(size), *(bytes(_PIECE_BYTES) for _ in range(margin // _PIECE_BYTES))]
    except (MemoryError, OverflowError):
        return False
    return True
