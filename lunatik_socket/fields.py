# SPDX-License-Identifier: MIT
"""Named fields of a buffer: layouts, and reading and writing of fields."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Field", "Layout", "layout", "read", "write"]

_WIDEST_BITS = 64

_ENDIANS = {
    "big": "big",
    "be": "big",
    "net": "big",
    "little": "little",
    "le": "little",
    "host": sys.byteorder,
}


class Field(NamedTuple):
    """One field of a layout.

    `offset` and `length` are in bits for a number, in bytes for a string.
    """

    offset: int
    length: int
    is_string: bool
    endian: str


Layout: TypeAlias = Mapping[str, Field]
"""Fields by name, as returned by `layout`."""


def layout(fields: Mapping[str, Any]) -> Layout:
    """Return the layout that `fields` describes.

    Each field is `(offset, length [, type] [, endian])` or a mapping with these keys. `type` is
    `"number"` (default) or `"string"`. `endian` is `"big"` (default), `"net"`, `"little"` or
    `"host"`. Both may be shortened, and the third value of a tuple may be either.
    """
    if not isinstance(fields, Mapping):
        raise TypeError(f"layout must be a mapping of fields, not {type(fields).__name__}")
    return {_field_name(name): _field(name, what) for name, what in fields.items()}


def _field_name(name: object) -> str:
    if isinstance(name, str):
        return name
    raise TypeError(f"the name of a field must be a string, not {name!r}")


def _field(name: str, what: Any) -> Field:
    if isinstance(what, Field):
        return what
    if isinstance(what, Mapping):
        unknown = set(what) - {"offset", "length", "type", "endian"}
        if unknown:
            raise ValueError(f'field "{name}" has unknown keys {sorted(map(str, unknown))}')
        parts = [what.get("offset"), what.get("length")]
        kind, endian = what.get("type"), what.get("endian")
    elif isinstance(what, Sequence) and not isinstance(what, str | bytes):
        if not 2 <= len(what) <= 4:
            raise ValueError(f'field "{name}" must be (offset, length [, type] [, endian])')
        parts = list(what[:2])
        kind, endian = _kind_and_endian(*what[2:])
    else:
        raise TypeError(f'field "{name}" must be a tuple or a mapping, not {type(what).__name__}')
    offset = _whole(name, "offset", parts[0], 0)
    length = _whole(name, "length", parts[1], 1)
    return Field(offset, length, _is_string(name, kind), _endian(name, endian))


def _kind_and_endian(third: Any = None, fourth: Any = None) -> tuple[Any, Any]:
    is_endian = fourth is None and isinstance(third, str) and _full_endian(third) is not None
    return (None, third) if is_endian else (third, fourth)


def _whole(name: str, key: str, value: object, lowest: int) -> int:
    if not isinstance(value, int):
        raise TypeError(f'{key} of field "{name}" must be an integer, not {type(value).__name__}')
    if value < lowest:
        raise ValueError(f'{key} of field "{name}" must be at least {lowest}, not {value}')
    return value


def _is_string(name: str, kind: object) -> bool:
    if kind is None:
        return False
    if isinstance(kind, str) and kind and ("number".startswith(kind) or "string".startswith(kind)):
        return "string".startswith(kind)
    raise ValueError(f'type of field "{name}" must be "number" or "string", not {kind!r}')


def _full_endian(short: str) -> str | None:
    return next(
        (order for word, order in _ENDIANS.items() if short and word.startswith(short)), None
    )


def _endian(name: str, endian: object) -> str:
    if endian is None:
        return "big"
    full = _full_endian(endian) if isinstance(endian, str) else None
    if full is None:
        words = '"big", "net", "little" or "host"'
        raise ValueError(f'endian of field "{name}" must be {words}, not {endian!r}')
    return full


def read(memory: memoryview, field: Field) -> int | bytes | None:
    """Return the value of `field`; None if it is not inside `memory` or wider than 64 bits."""
    return _read_string(memory, field) if field.is_string else _read_number(memory, field)


def write(memory: memoryview, field: Field, name: str, value: object) -> None:
    """Write `value` to `field`; do nothing if `read` would return None."""
    if field.is_string:
        _write_string(memory, field, name, value)
    else:
        _write_number(memory, field, name, value)


def _octets(memory: memoryview, field: Field) -> slice | None:
    # The bytes that contain a number field, or None if it cannot be read.
    end = field.offset + field.length
    if field.length > _WIDEST_BITS or end > 8 * len(memory):
        return None
    return slice(field.offset // 8, (end + 7) // 8)


def _read_number(memory: memoryview, field: Field) -> int | None:
    where = _octets(memory, field)
    if where is None:
        return None
    unused_bits = -(field.offset + field.length) % 8
    bits = int.from_bytes(memory[where], "big") >> unused_bits
    return _in_order(bits & ((1 << field.length) - 1), field)


def _write_number(memory: memoryview, field: Field, name: str, value: object) -> None:
    if not isinstance(value, int):
        raise TypeError(f'field "{name}" must be an integer, not {type(value).__name__}')
    where = _octets(memory, field)
    if where is None:
        return
    mask = (1 << field.length) - 1
    unused_bits = -(field.offset + field.length) % 8
    around = int.from_bytes(memory[where], "big") & ~(mask << unused_bits)
    bits = _from_order(value & mask, field) << unused_bits
    memory[where] = (around | bits).to_bytes(where.stop - where.start, "big")


# In a little endian field the first eight bits are the least significant bits of the number, and
# the next eight bits follow. If the length is not a multiple of eight, the remaining bits are the
# most significant ones.


def _in_order(bits: int, field: Field) -> int:
    if field.endian == "big":
        return bits
    whole, rest = divmod(field.length, 8)
    low = (bits >> rest).to_bytes(whole, "big")
    return int.from_bytes(low, "little") | (bits & ((1 << rest) - 1)) << (8 * whole)


def _from_order(value: int, field: Field) -> int:
    if field.endian == "big":
        return value
    whole, rest = divmod(field.length, 8)
    low = (value & ((1 << (8 * whole)) - 1)).to_bytes(whole, "little")
    return int.from_bytes(low, "big") << rest | value >> (8 * whole)


def _read_string(memory: memoryview, field: Field) -> bytes | None:
    end = field.offset + field.length
    return memory[field.offset : end].tobytes() if end <= len(memory) else None


def _write_string(memory: memoryview, field: Field, name: str, value: object) -> None:
    try:
        text = memoryview(value).cast("B")  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f'field "{name}" must be bytes, not {type(value).__name__}') from None
    if field.offset + field.length > len(memory):
        return
    text = text[: field.length]
    memory[field.offset : field.offset + len(text)] = text
