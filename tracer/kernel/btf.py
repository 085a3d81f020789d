# SPDX-License-Identifier: MIT
"""Offsets of struct fields in the running kernel, from its type information (BTF).

The layout of BTF: the kernel's Documentation/bpf/btf.rst and include/uapi/linux/btf.h.
"""

import ctypes
from collections.abc import Iterator
from typing import Self

from tracer.errors import UnsupportedError
from tracer.kernel.libbpf import libbpf

__all__ = ["KernelTypes"]

_KIND_STRUCT, _KIND_UNION, _KIND_FUNC = 4, 5, 12
_KINDS_OF_NAMES = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag


class _Type(ctypes.Structure):
    """The head of every BTF type: struct btf_type. In a reference `size` is the other type's id."""

    _fields_ = (
        ("name_offset", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
    )


class _Member(ctypes.Structure):
    """One field of a struct or union: struct btf_member."""

    _fields_ = (
        ("name_offset", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
    )


class _Parameter(ctypes.Structure):
    """One argument of a function's prototype: struct btf_param."""

    _fields_ = (("name_offset", ctypes.c_uint32), ("type", ctypes.c_uint32))


class KernelTypes:
    """The types of the running kernel. A context manager, since they take some megabytes."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], int | None] = {}
        self._btf = libbpf().btf__load_vmlinux_btf()
        if not self._btf:
            raise UnsupportedError(
                "read",
                "/sys/kernel/btf/vmlinux",
                "the kernel has no type information (BTF)",
                hint="needs a kernel with CONFIG_DEBUG_INFO_BTF; distribution kernels have it",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        libbpf().btf__free(self._btf)

    def struct_id(self, name: str) -> int | None:
        """The BTF id of a struct; None if the kernel has no such struct."""
        return self._find(name, _KIND_STRUCT)

    def function_id(self, name: str) -> int | None:
        """The BTF id of a function of the kernel itself (not of a module); None if it has none."""
        return self._find(name, _KIND_FUNC)

    def _find(self, name: str, kind: int) -> int | None:
        if (name, kind) not in self._found:  # each search walks all types
            number: int = libbpf().btf__find_by_name_kind(self._btf, name.encode(), kind)
            self._found[name, kind] = number if number > 0 else None
        return self._found[name, kind]

    def offset_of(self, struct: str, field: str) -> int:
        """Byte offset of `field` in `struct`, also inside its anonymous structs and unions.

        Raises UnsupportedError if the kernel has no such struct or field.
        """
        offset = self.offset_if_any(struct, field)
        if offset is None:
            raise UnsupportedError(
                "find",
                f"{struct}.{field}",
                "the kernel's type information (BTF) has no such field",
                hint="please report the version of this kernel",
            )
        return offset

    def offset_if_any(self, struct: str, field: str) -> int | None:
        """As `offset_of`; None if the kernel has no such struct or field."""
        type_id = self.struct_id(struct)
        bits = None if type_id is None else self._search(type_id, field)
        return None if bits is None else bits // 8

    def argument_slots(self, function: str) -> int | None:
        """How many words of 8 bytes the arguments of a function take; None if it does not exist.

        A struct passed by value takes as many words as it fills, any other argument one.
        """
        type_id = self.function_id(function)
        if type_id is None:
            return None
        prototype = self._type(type_id).size
        address = libbpf().btf__type_by_id(self._btf, prototype) + ctypes.sizeof(_Type)
        parameters = (_Parameter * (self._info(prototype) & 0xFFFF)).from_address(address)
        return sum(self._slots_of(parameter.type) for parameter in parameters)

    def _slots_of(self, type_id: int) -> int:
        while self._kind(type_id) in _KINDS_OF_NAMES:
            type_id = self._type(type_id).size
        if self._kind(type_id) in (_KIND_STRUCT, _KIND_UNION):
            return (int(self._type(type_id).size) + 7) // 8
        return 1

    def _type(self, type_id: int) -> _Type:
        return _Type.from_address(libbpf().btf__type_by_id(self._btf, type_id))

    def _search(self, type_id: int, field: str) -> int | None:
        for member in self._members(type_id):
            name = libbpf().btf__name_by_offset(self._btf, member.name_offset).decode()
            # In a struct with bit fields the upper 8 bits are the width (kind_flag).
            bits = member.offset & 0xFFFFFF if self._info(type_id) >> 31 else member.offset
            if name == field:
                return int(bits)
            if not name and self._kind(member.type) in (_KIND_STRUCT, _KIND_UNION):
                inside = self._search(member.type, field)
                if inside is not None:
                    return int(bits) + inside
        return None

    def _info(self, type_id: int) -> int:
        return int(self._type(type_id).info)

    def _kind(self, type_id: int) -> int:
        return (self._info(type_id) >> 24) & 0x1F

    def _members(self, type_id: int) -> Iterator[_Member]:
        address = libbpf().btf__type_by_id(self._btf, type_id) + ctypes.sizeof(_Type)
        yield from (_Member * (self._info(type_id) & 0xFFFF)).from_address(address)
