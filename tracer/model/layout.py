# SPDX-License-Identifier: MIT
"""Where the fields of a map's keys and values are, in bytes.

bcc has the layouts from the compiled C text. The loader's child hands them over as JSON, and the
parent reads and writes fields by name. So no struct of bpf/ is described a second time.
"""

import ctypes
import sys
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["VALUE", "Field", "Layout", "MapLayout"]

VALUE = "value"
"""The only field of a key or value that is a plain number, not a struct."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `length` items of `item_bytes` each, `length` 0 for one that is not an array."""

    name: str
    offset: int
    item_bytes: int
    length: int = 0

    @property
    def end(self) -> int:
        """Where it ends, in bytes from the struct's start."""
        return self.offset + self.item_bytes * (self.length or 1)

    @property
    def bytes(self) -> slice:
        """The field in the struct's bytes."""
        return slice(self.offset, self.end)

    @property
    def words(self) -> slice:
        """Its indices in the struct as 64-bit numbers; ValueError if it is not of such numbers."""
        if self.item_bytes != 8 or self.offset % 8:
            raise ValueError(f'"{self.name}" is not of 64-bit numbers')
        return slice(self.offset // 8, self.end // 8)


@dataclass(frozen=True, slots=True)
class Layout:
    """A struct of `size` bytes, or a plain number: then its one field is called `VALUE`."""

    size: int
    fields: tuple[Field, ...]

    @classmethod
    def of(cls, kind: type[Any]) -> "Layout":
        """The layout of a ctypes type, such as bcc's `Key` and `Leaf` of a map."""
        size = ctypes.sizeof(kind)
        if not issubclass(kind, ctypes.Structure):
            return cls(size, (Field(VALUE, 0, size),))
        return cls(
            size,
            tuple(
                Field(name, getattr(kind, name).offset, *_item(item))
                for name, item, *_ in kind._fields_
            ),
        )

    def __getitem__(self, name: str) -> Field:
        """The field of this name; raises KeyError."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def number(self, name: str, raw: bytes | memoryview) -> int:
        """The unsigned number that a field has in the struct's bytes."""
        return int.from_bytes(raw[self[name].bytes], sys.byteorder)

    def pack(self, **values: int | bytes) -> bytes:
        """A struct with these fields, and zero everywhere else."""
        result = bytearray(self.size)
        for name, value in values.items():
            field = self[name]
            size = field.end - field.offset
            raw = value.to_bytes(size, sys.byteorder) if isinstance(value, int) else value
            if len(raw) > size:
                raise ValueError(f'"{name}" has {size} bytes, not {len(raw)}')
            result[field.offset : field.offset + len(raw)] = raw
        return bytes(result)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Layout":
        """From what `MapLayout.to_json` made of it."""
        return cls(data["size"], tuple(Field(**field) for field in data["fields"]))


@dataclass(frozen=True, slots=True)
class MapLayout:
    """A map's keys and its values; for a per-CPU map, one CPU's copy of a value."""

    key: Layout
    value: Layout

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "MapLayout":
        """The opposite of `to_json`."""
        return cls(Layout.from_json(data["key"]), Layout.from_json(data["value"]))


def _item(kind: Any) -> tuple[int, int]:
    """The bytes of one item, and how many items there are."""
    if issubclass(kind, ctypes.Array):
        return ctypes.sizeof(kind._type_), kind._length_
    return ctypes.sizeof(kind), 0
