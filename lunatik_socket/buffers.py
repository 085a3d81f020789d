# SPDX-License-Identifier: MIT
"""Conversion and checks of the data to send and of the buffers to receive into."""

from __future__ import annotations

from typing import Any

from .data import Data, to_bytes

__all__ = ["filled", "sendable", "writable"]


def sendable(data: Any) -> bytes | memoryview:
    """Return the bytes of `data` as the C methods take them, without copying them if possible.

    An empty list and an empty `Data` raise `ValueError`. An empty bytes-like object is returned.
    """
    if type(data) is bytes:
        return data
    if isinstance(data, Data | list | tuple):
        if not len(data):
            raise ValueError("data can not be empty")
        return data._memory if isinstance(data, Data) else to_bytes(data)
    try:
        view = memoryview(data)
    except TypeError:
        expected = "bytes-like, a list of integers or a Data"
        raise TypeError(f"data must be {expected}, not {type(data).__name__}") from None
    if not view.c_contiguous:
        raise ValueError("data must be one piece of memory: bytes(data) makes a copy that is")
    return view


def writable(buffer: Any) -> memoryview:
    """Return the memory of `buffer` to receive into; it must not be empty."""
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
    """Return the bytes received under MSG_TRUNC, where the kernel reported `size`.

    For a datagram `size` may be more than the bytes written. For a stream the kernel drops the
    bytes and writes nothing, so zeros are returned. `memory` must be zeroed: Python's own recv
    would return what the memory held before.
    """
    return memory[:size].tobytes()
