# SPDX-License-Identifier: MIT
"""Buffers with named fields at any bit, and segments that share their memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .fields import Layout, layout, read, write

__all__ = ["Data", "to_bytes"]


def to_bytes(values: Iterable[object], what: str = "data") -> bytes:
    """Return the bytes of a list of integers, each taken modulo 256."""
    numbers = bytearray()
    for value in values:
        if not isinstance(value, int):
            raise TypeError(f"{what} must hold integers only, not {type(value).__name__}")
        numbers.append(value & 0xFF)
    return bytes(numbers)


class Data:
    """A buffer of fixed length, to send and to receive into, with names for its fields.

    `Data(5)` is five zero bytes. `Data([1, 2, 3])` and `Data(b"abc")` copy their argument. `len(d)`
    is the length in bytes, `bytes(d)` the content, `d[0]` the first byte. After `d.layout(l)`,
    `d.field` reads and `d.field = value` writes the bits that `l` names `field`. A field that is
    not inside the buffer, is wider than 64 bits or is in no layout reads as None, and writing it
    changes nothing. Numbers are unsigned; a written number is taken modulo its width.
    """

    __slots__ = ("__weakref__", "_layout", "_memory")

    _layout: Layout
    _memory: memoryview

    def __init__(self, source: Any) -> None:
        """Make a buffer from `source`: a length in bytes, bytes-like, or a list of integers."""
        content = _content(source)
        if not content:
            raise ValueError("data can not be empty")
        _adopt(self, memoryview(content))

    @classmethod
    def new(cls, source: Any = None) -> Data | None:
        """Return `Data(source)`, or None if it would be empty, as Lua's `data.new` does."""
        content = b"" if source is None else _content(source)
        return cls(content) if content else None

    def layout(self, fields: Mapping[str, Any]) -> Data:
        """Set the names of the fields, and return this object.

        `fields` is a `Layout`, or a mapping that `layout` takes.
        """
        object.__setattr__(self, "_layout", layout(fields))
        return self

    def segment(self, offset: int = 0, length: int | None = None) -> Data:
        """Return a new object on the same memory: `length` bytes from byte `offset` on.

        Without `length` it ends where this object ends. A length of 0 makes an empty object. A
        segment that is not inside this object is a `ValueError`. The segment keeps the memory
        alive. A write through one object is visible through the other.
        """
        size = len(self._memory)
        if length is None and isinstance(offset, int):
            length = size - offset
        for what, value in (("offset", offset), ("length", length)):
            if not isinstance(value, int):
                raise TypeError(f"{what} must be an integer, not {type(value).__name__}")
        assert length is not None
        if offset < 0 or length < 0 or offset + length > size:
            raise ValueError(f"segment at {offset}, {length} long, is not inside 0 to {size} bytes")
        part = object.__new__(type(self))
        _adopt(part, self._memory[offset : offset + length])
        return part

    def __len__(self) -> int:
        return len(self._memory)

    def __bytes__(self) -> bytes:
        return self._memory.tobytes()

    def __buffer__(self, flags: int, /) -> memoryview:
        return self._memory

    def __iter__(self) -> Iterator[int]:
        return iter(self._memory)

    def __getitem__(self, index: int) -> int:
        return self._memory[_index(index, len(self._memory))]

    def __setitem__(self, index: int, value: int) -> None:
        if not isinstance(value, int):
            raise TypeError(f"a byte must be an integer, not {type(value).__name__}")
        self._memory[_index(index, len(self._memory))] = value & 0xFF

    def __getattr__(self, name: str) -> Any:
        # Python looks up the methods of its own protocols by such names. They are not fields.
        if name.startswith("__"):
            raise AttributeError(name)
        field = self._layout.get(name)
        return None if field is None else read(self._memory, field)

    def __setattr__(self, name: str, value: Any) -> None:
        field = self._layout.get(name)
        if field is not None:
            write(self._memory, field, name, value)

    def __repr__(self) -> str:
        return f"<lunatik_socket.Data of {len(self)} bytes>"


def _adopt(data: Data, memory: memoryview) -> None:
    object.__setattr__(data, "_memory", memory)
    object.__setattr__(data, "_layout", {})


def _content(source: Any) -> bytearray:
    if isinstance(source, int):
        if source < 0:
            raise ValueError(f"length must not be negative: {source}")
        return bytearray(source)
    if isinstance(source, list | tuple):
        return bytearray(to_bytes(source))
    if isinstance(source, Data):
        return bytearray(source._memory)
    try:
        return bytearray(memoryview(source).cast("B"))
    except TypeError:
        pass
    what = "a length, bytes-like or a list of integers"
    raise TypeError(f"data must be made from {what}, not {type(source).__name__}")


def _index(index: object, size: int) -> int:
    if not isinstance(index, int):
        raise TypeError(f"index must be an integer, not {type(index).__name__}")
    if -size <= index < size:
        return index
    raise IndexError(f"index {index} is outside of {size} bytes")
