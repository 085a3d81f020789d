# SPDX-License-Identifier: MIT
"""The memory of Lua's data objects: buffers, their bytes and their fields.

A data object's memory is a memoryview. A segment's memory is a part of it, and keeps the whole
buffer alive.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ..fields import Field, layout, read, write
from .calls import answering

__all__ = ["Buffers"]


class Buffers:
    """Makes buffers and, if `counted`, counts the bytes that are in use."""

    def __init__(self, *, counted: bool) -> None:
        self.used_bytes = 0
        self._make = self._counted_kind() if counted else bytearray

    def _counted_kind(self) -> type[bytearray]:
        buffers = self

        class Counted(bytearray):
            def __init__(self, source: int | bytes) -> None:
                super().__init__(source)
                buffers.used_bytes += len(self)

            def __del__(self) -> None:
                buffers.used_bytes -= len(self)

        return Counted

    def new(self, length: int) -> memoryview:
        """Return a buffer of zero bytes."""
        return memoryview(self._make(length))

    def new_from(self, octets: str) -> memoryview:
        """Return a buffer with these bytes, one character for each."""
        return memoryview(self._make(octets.encode("latin-1")))

    def calls(self) -> dict[str, Callable[..., Any]]:
        """Return the functions that Lua calls, by name. Lua checks indexes and types before."""
        return {
            "new_data": answering(self.new),
            "new_data_from": answering(self.new_from),
            "bytes_of_data": lambda: self.used_bytes,
            "segment": _segment,
            "text": memoryview.tobytes,
            "get": operator.getitem,
            "set": operator.setitem,
            "field": answering(_field),
            "read": _read,
            "write": _write,
        }


def _segment(memory: memoryview, offset: int, length: int) -> memoryview:
    return memory[offset : offset + length]


def _field(name: str, *parts: Any) -> tuple[Field, bool]:
    # The third positional value may be a type or an endian; `layout` finds out which.
    offset, length, third, fourth, kind, endian = parts
    what: Any = {"offset": offset, "length": length, "type": kind, "endian": endian}
    if third is not None:
        if kind is not None or endian is not None:
            raise ValueError(f'field "{name}" has values both by position and by name')
        what = (offset, length, third) if fourth is None else (offset, length, third, fourth)
    field = layout({name: what})[name]
    return field, field.is_string


def _read(memory: memoryview, field: Field) -> int | bytes | None:
    value = read(memory, field)
    if isinstance(value, int) and value >= 1 << 63:
        return value - (1 << 64)  # Lua's integers are signed
    return value


def _write(memory: memoryview, field: Field, value: int | str) -> None:
    write(memory, field, "", value.encode("latin-1") if isinstance(value, str) else value)
