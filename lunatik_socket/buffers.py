# SPDX-License-Identifier: MIT
"""What may be sent, and what may be received into."""

from __future__ import annotations

from typing import Any

from .data import Data, to_bytes

__all__ = ["filled", "sendable", "writable"]


def sendable(data: Any) -> bytes | memoryview:
    """Return what the C methods can send of `data`, without a copy of its bytes if it has any."""
    if type(data) is bytes:
        return data
    if isinstance(data, Data):
        return data._memory
    if isinstance(data, list | tuple):
        return to_bytes(data)
    try:
        view = memoryview(data)
    except TypeError:
        expected = "bytes-like, a list of integers or a Data"
        raise TypeError(f"data must be {expected}, not {type(data).__name__}") from None
    if not view.c_contiguous:
        raise ValueError("data must lie in one piece of memory: bytes(data) makes a copy that does")
    return view


def writable(buffer: Any) -> memoryview:
    """Return the memory of `buffer` to receive into."""
    try:
        view = buffer._memory if isinstance(buffer, Data) else memoryview(buffer).cast("B")
    except TypeError:
        view = None
    if view is None or view.readonly:
        expected = "a writable bytes-like object or a Data"
        raise TypeError(f"buffer must be {expected}, not {type(buffer).__name__}")
    if not len(view):
        raise ValueError("buffer can not be empty")
    return view


def filled(memory: memoryview, size: int) -> bytes:
    """Return the bytes received under MSG_TRUNC, of which the kernel tells `size`.

    For a datagram that may be more than were written; for a stream none were written, and zeros
    stand for the bytes thrown away. `memory` must be zeroed: Python's own recv shows what was there
    before.
    """
    return memory[:size].tobytes()
