# SPDX-License-Identifier: MIT
"""Read and write BPF maps through their descriptors, with libbpf's calls and without bcc.

Values of a per-CPU map come as one value for each *possible* CPU, each rounded up to 8 bytes.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from tracer.kernel.libbpf import checked, last_error, libbpf, object_info
from tracer.model.layout import MapLayout

__all__ = ["Map", "possible_cpus", "sum_of_cpus"]

_BATCH = 64
_LARGE_BATCH = 8192
_PER_CPU_TYPES = (5, 6)  # BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY
_NO_EXIST = 1  # BPF_NOEXIST
_ENOTSUPP = 524  # internal to the kernel; Python's errno does not have it


@functools.cache
def possible_cpus() -> int:
    """The number of possible CPUs, which is the number of copies in a per-CPU value."""
    total = 0
    for part in Path("/sys/devices/system/cpu/possible").read_text().strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def sum_of_cpus(values: memoryview, size: int) -> memoryview:
    """Add up the CPUs' copies of a struct of u64: `values` holds them one after another.

    Returns a view of unsigned 64-bit items. Each copy is added as one long integer: no field comes
    near 2^64, so no field carries into the next one. Copies of CPUs that counted nothing are left
    out, since comparing them with zero takes less time than adding them.
    """
    nothing = bytes(size)
    copies = [bytes(values[start : start + size]) for start in range(0, len(values), size)]
    counted = [copy for copy in copies if copy != nothing] or copies[:1]
    if len(counted) == 1:
        return memoryview(counted[0]).cast("Q")
    total = sum(int.from_bytes(copy, "little") for copy in counted)
    return memoryview(total.to_bytes(size, "little")).cast("Q")


class _MapInfo(ctypes.Structure):
    """The head of the kernel's struct bpf_map_info."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
    )


class Map:
    """One BPF map, through a descriptor that stays its creator's to close.

    `layout` names the fields of its keys and values. `capacity` is in entries, `key_size` in bytes;
    `field_size` is what one CPU's copy of a value takes, in bytes.
    """

    def __init__(self, descriptor: int, layout: MapLayout) -> None:
        info = _MapInfo()
        object_info(descriptor, info)
        if (layout.key.size, layout.value.size) != (info.key_size, info.value_size):
            raise ValueError(
                f"keys of {info.key_size} and values of {info.value_size} bytes, where the layout "
                f"has {layout.key.size} and {layout.value.size}"
            )
        per_cpu = info.type in _PER_CPU_TYPES
        self.descriptor = descriptor
        self.layout = layout
        self.capacity = info.max_entries
        self.key_size = info.key_size
        self.field_size = (info.value_size + 7) // 8 * 8 if per_cpu else info.value_size
        self._value_size = self.field_size * (possible_cpus() if per_cpu else 1)
        self._batch_works = True

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Every key with its value, the CPUs' copies one after another."""
        names, one = self.key_size, self._value_size
        for count, keys, values in self._chunks(_BATCH):
            for i in range(count):
                yield keys[i * names : (i + 1) * names], values[i * one : (i + 1) * one]

    def values(self) -> Iterator[memoryview]:
        """All values without their keys, many in each view, one after another.

        Takes a fraction of the time of `items`: a few system calls, and no Python code per value.
        """
        for count, _, values in self._chunks(min(self.capacity, _LARGE_BATCH)):
            yield values[: count * self._value_size]

    def _chunks(self, size: int) -> Iterator[tuple[int, bytes, memoryview]]:
        """Numbers of entries, with their keys and their values; about `size` entries at a time."""
        if self._batch_works:
            try:
                yield from self._batches(size)
            except OSError as error:
                # A per-CPU array has no batch look-up before 5.13.
                if error.errno not in (errno.EINVAL, errno.ENOTSUP, _ENOTSUPP):
                    raise
                self._batch_works = False
            else:
                return
        for key, value in self._items_of_array():
            yield 1, key, value

    def update(self, key: bytes, value: bytes) -> None:
        """Set one value; raises OSError."""
        checked(libbpf().bpf_map_update_elem(self.descriptor, key, value, 0))

    def delete(self, key: bytes) -> bool:
        """Remove one key; returns whether it was there. Raises OSError."""
        if libbpf().bpf_map_delete_elem(self.descriptor, key) == 0:
            return True
        if ctypes.get_errno() == errno.ENOENT:
            return False
        raise last_error()

    def insert(self, key: bytes, value: bytes) -> bool:
        """Set one value unless the key has one already; returns whether it was set."""
        return bool(libbpf().bpf_map_update_elem(self.descriptor, key, value, _NO_EXIST) == 0)

    def _batches(self, size: int) -> Iterator[tuple[int, bytes, memoryview]]:
        keys = ctypes.create_string_buffer(size * self.key_size)
        values = ctypes.create_string_buffer(size * self._value_size)
        # The cursor is a u32 for a hash, and as long as a key for others.
        cursor = ctypes.create_string_buffer(max(8, self.key_size))
        first = True
        while True:
            count = ctypes.c_uint32(size)
            status = libbpf().bpf_map_lookup_batch(
                self.descriptor,
                None if first else cursor,
                cursor,
                keys,
                values,
                ctypes.byref(count),
                None,
            )
            failure = ctypes.get_errno() if status < 0 else 0
            if failure == errno.ENOSPC:
                # One bucket of the hash holds more than fits: try again with more room.
                size *= 2
                keys = ctypes.create_string_buffer(size * self.key_size)
                values = ctypes.create_string_buffer(size * self._value_size)
                continue
            if failure not in (0, errno.ENOENT):
                raise OSError(failure, os.strerror(failure))
            yield count.value, keys.raw, memoryview(values).cast("B")
            if failure:
                return
            first = False

    def _items_of_array(self) -> Iterator[tuple[bytes, memoryview]]:
        value = ctypes.create_string_buffer(self._value_size)
        for index in range(self.capacity):
            key = index.to_bytes(4, "little")
            checked(libbpf().bpf_map_lookup_elem(self.descriptor, key, value))
            yield key, memoryview(bytes(value)).cast("B")
