# SPDX-License-Identifier: MIT
"""Reading BPF maps through their descriptors, with libbpf's calls; no bcc in sight.

Values of a per-CPU map come as one value for each *possible* CPU, each rounded up to 8 bytes.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from tracer.kernel.libbpf import last_error, libbpf, object_info

__all__ = ["Map", "possible_cpus", "sum_of_cpus"]

_BATCH = 64
_PER_CPU_TYPES = (5, 6)  # BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY


@functools.cache
def possible_cpus() -> int:
    """How many CPUs the kernel could ever have; the length of a per-CPU value."""
    total = 0
    for part in Path("/sys/devices/system/cpu/possible").read_text().strip().split(","):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def sum_of_cpus(values: memoryview, size: int) -> memoryview:
    """Add up the CPUs' copies of a struct of u64: `values` holds them one after another.

    Returns a view of unsigned 64-bit items. All fields of all copies are added in one step, as
    long integers: no field comes near 2^64, so none carries into its neighbour. Most copies are of
    CPUs that counted nothing; to see that takes less time than to add them.
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

    `capacity` is in entries, `key_size` in bytes; `field_size` is what one CPU's copy of a value
    takes, in bytes.
    """

    def __init__(self, descriptor: int) -> None:
        info = _MapInfo()
        object_info(descriptor, info)
        per_cpu = info.type in _PER_CPU_TYPES
        self.descriptor = descriptor
        self.capacity = info.max_entries
        self.key_size = info.key_size
        self.field_size = (info.value_size + 7) // 8 * 8 if per_cpu else info.value_size
        self._value_size = self.field_size * (possible_cpus() if per_cpu else 1)
        self._batch_works = True

    def items(self) -> Iterator[tuple[bytes, memoryview]]:
        """Every key with its value, the CPUs' copies one after another."""
        if self._batch_works:
            try:
                yield from self._items_by_batch()
            except OSError as error:
                # A per-CPU array has no batch look-up before 5.13.
                if error.errno not in (errno.EINVAL, errno.ENOTSUP, 524):
                    raise
                self._batch_works = False
            else:
                return
        yield from self._items_of_array()

    def update(self, key: bytes, value: bytes) -> None:
        """Set one value; raises OSError."""
        if libbpf().bpf_map_update_elem(self.descriptor, key, value, 0) < 0:
            raise last_error()

    def insert(self, key: bytes, value: bytes) -> bool:
        """Set one value unless there is one already; says whether it was set."""
        no_exist = 1
        return bool(libbpf().bpf_map_update_elem(self.descriptor, key, value, no_exist) == 0)

    def _items_by_batch(self) -> Iterator[tuple[bytes, memoryview]]:
        keys = ctypes.create_string_buffer(_BATCH * self.key_size)
        values = ctypes.create_string_buffer(_BATCH * self._value_size)
        # The cursor is a u32 for a hash, and as long as a key for others.
        cursor = ctypes.create_string_buffer(max(8, self.key_size))
        first, size = True, _BATCH
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
                # One bucket of the hash holds more than fits: again, with more room.
                size *= 2
                keys = ctypes.create_string_buffer(size * self.key_size)
                values = ctypes.create_string_buffer(size * self._value_size)
                continue
            if failure not in (0, errno.ENOENT):
                raise OSError(failure, os.strerror(failure))
            view, names, size_of_one = memoryview(values).cast("B"), keys.raw, self._value_size
            for i in range(count.value):
                yield (
                    names[i * self.key_size : (i + 1) * self.key_size],
                    view[i * size_of_one : (i + 1) * size_of_one],
                )
            if failure:
                return
            first = False

    def _items_of_array(self) -> Iterator[tuple[bytes, memoryview]]:
        value = ctypes.create_string_buffer(self._value_size)
        for index in range(self.capacity):
            key = index.to_bytes(4, "little")
            if libbpf().bpf_map_lookup_elem(self.descriptor, key, value) < 0:
                raise last_error()
            yield key, memoryview(bytes(value)).cast("B")
