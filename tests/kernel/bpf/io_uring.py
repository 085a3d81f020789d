# SPDX-License-Identifier: MIT
"""Just enough of io_uring(7) to send and receive on a socket, by ctypes, without a library."""

import ctypes
import mmap
import os
import struct
from types import TracebackType
from typing import Self

__all__ = ["OP_RECV", "OP_SEND", "Ring"]

OP_SEND, OP_RECV = 26, 27
_SETUP, _ENTER = 425, 426  # the same on every architecture
_GETEVENTS = 1
_OFFSET_SQ_RING, _OFFSET_CQ_RING, _OFFSET_SQES = 0, 0x8000000, 0x10000000
_PARAMS = struct.Struct("=10I10I10I")  # struct io_uring_params: head, sq_off, cq_off
_SQE = struct.Struct("=BBHiQQIIQ24x")  # opcode, flags, ioprio, fd, off, addr, len, flags, user_data


class Ring:
    """A ring of one entry; raises OSError where the kernel has none or forbids it."""

    def __init__(self) -> None:
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        params = ctypes.create_string_buffer(_PARAMS.size)
        self._descriptor = self._call(_SETUP, 1, params)
        fields = _PARAMS.unpack(params.raw)
        self._sq, self._cq = fields[10:20], fields[20:30]
        self._sq_ring = self._map(self._sq[6] + 4, _OFFSET_SQ_RING)
        self._cq_ring = self._map(self._cq[5] + 16 * fields[1], _OFFSET_CQ_RING)
        self._sqes = self._map(64, _OFFSET_SQES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for mapping in (self._sq_ring, self._cq_ring, self._sqes):
            mapping.close()
        os.close(self._descriptor)

    def run(self, operation: int, descriptor: int, buffer: "ctypes.Array[ctypes.c_char]") -> int:
        """Submit one send or receive of the buffer and wait for it; returns its result."""
        address = ctypes.addressof(buffer)
        self._sqes[:64] = _SQE.pack(operation, 0, 0, descriptor, 0, address, len(buffer), 0, 0)
        self._put(self._sq_ring, self._sq[6], 0)
        self._put(self._sq_ring, self._sq[1], self._get(self._sq_ring, self._sq[1]) + 1)
        self._call(_ENTER, self._descriptor, 1, 1, _GETEVENTS, None, 0)
        head = self._get(self._cq_ring, self._cq[0])
        at = self._cq[5] + 16 * (head & self._get(self._cq_ring, self._cq[2]))
        [result] = struct.unpack_from("=i", self._cq_ring, at + 8)
        self._put(self._cq_ring, self._cq[0], head + 1)
        return int(result)

    def _call(self, *arguments: object) -> int:
        result: int = self._syscall(*arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def _map(self, size: int, offset: int) -> mmap.mmap:
        return mmap.mmap(self._descriptor, size, offset=offset)

    @staticmethod
    def _get(ring: mmap.mmap, at: int) -> int:
        return int(struct.unpack_from("=I", ring, at)[0])

    @staticmethod
    def _put(ring: mmap.mmap, at: int, value: int) -> None:
        struct.pack_into("=I", ring, at, value & 0xFFFFFFFF)
