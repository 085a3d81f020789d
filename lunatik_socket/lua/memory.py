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

__all__ = ["MEMORY_CALLS"]


def _new(length: int) -> memoryview:
    return memoryview(bytearray(length))


def _new_from(octets: str) -> memoryview:
    # One character for each byte.
    return memoryview(bytearray(octets, "latin-1"))


def _segment(memory: memoryview, offset: int, length: int) -> memoryview:
    return memory[offset : offset + length]


def _text(memory: memoryview, start: int, end: int) -> bytes:
    return memory[start:end].tobytes()


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


MEMORY_CALLS: dict[str, Callable[..., Any]] = {
    "new_data": answering(_new),
    "new_data_from": answering(_new_from),
    "segment": answering(_segment),
    "text": answering(_text),
    # Lua has checked the index and the value, so these do not fail. An answer would double their
    # time.
    "get": operator.getitem,
    "set": operator.setitem,
    "field": answering(_field),
    "read": answering(_read),
    "write": answering(_write),
}
"""The functions that Lua calls, by name. Lua checks indexes and types before."""
