# SPDX-License-Identifier: MIT
"""The system calls of the supervisor that Python does not have, and the structs that they take.

The layouts are those of <linux/seccomp.h> and, for `struct msghdr`, <bits/socket.h> of the C
libraries, on 64-bit machines.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, MSG_NOSIGNAL

from .addresses import Address

__all__ = [
    "MESSAGE_HEADER",
    "VECTOR",
    "Libc",
    "Notification",
    "address_in",
    "answer",
    "next_notification",
]

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, then struct seccomp_data
_ANSWER = struct.Struct("=QqiI")  # id, return value, error, flags
_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = 0xC0182101  # SECCOMP_IOCTL_NOTIF_SEND
_PIDFD_GETFD = 438  # on every architecture; since v5.6

MESSAGE_HEADER = struct.Struct("=QI4xQQQQi4x")
"""struct msghdr: name, its length, vectors, their number, control, its length, flags."""
VECTOR = struct.Struct("=QQ")
"""struct iovec: address, length."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A system call that waits for its answer. `call` is its number, `at` the place of the code."""

    id: int
    call: int
    at: int
    arguments: tuple[int, ...]

    @property
    def identity(self) -> tuple[int, int, tuple[int, ...]]:
        """Equal for the same call made again."""
        return self.call, self.at, self.arguments

    def integer(self, number: int) -> int:
        """The argument as an int."""
        return ctypes.c_int(self.arguments[number] & 0xFFFFFFFF).value


def next_notification(listener: int) -> Notification:
    """Wait for a call."""
    buffer = bytearray(_NOTIFICATION.size)
    fcntl.ioctl(listener, _RECEIVE, buffer)
    identity, _pid, _flags, call, _architecture, at, *arguments = _NOTIFICATION.unpack(buffer)
    return Notification(identity, call, at, tuple(arguments))


def answer(listener: int, notification: Notification, result: int) -> None:
    """Let the call return `result`, as the kernel would: a negative errno is an error."""
    value, error = (result, 0) if result >= 0 else (0, result)
    fcntl.ioctl(listener, _SEND, _ANSWER.pack(notification.id, value, error, 0))


def address_in(octets: bytes) -> Address | None:
    """The IP address and port of a struct sockaddr; None if it is of another family or cut off."""
    if len(octets) < 2:
        return None
    (family,) = struct.unpack_from("=H", octets)
    if family == AF_INET and len(octets) >= 16:
        return ip_address(octets[4:8]), int.from_bytes(octets[2:4], "big")
    if family == AF_INET6 and len(octets) >= 24:
        return ip_address(octets[8:24]), int.from_bytes(octets[2:4], "big")
    return None


class Libc:
    """System calls, each with the kernel's result: a negative errno for an error."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        for name in ("sendto", "sendmsg"):
            getattr(self._libc, name).restype = ctypes.c_ssize_t

    def connect(self, descriptor: int, name: bytes) -> int:
        """Make the system call connect."""
        return self._result(self._libc.connect(descriptor, name, len(name)))

    def bind(self, descriptor: int, name: bytes) -> int:
        """Make the system call bind."""
        return self._result(self._libc.bind(descriptor, name, len(name)))

    def listen(self, descriptor: int, backlog: int) -> int:
        """Make the system call listen."""
        return self._result(self._libc.listen(descriptor, backlog))

    def sendto(self, descriptor: int, data: bytes, flags: int, name: bytes) -> int:
        """Make the system call sendto."""
        size, length = ctypes.c_size_t(len(data)), len(name)
        flags |= MSG_NOSIGNAL
        return self._result(self._libc.sendto(descriptor, data, size, flags, name, length))

    def sendmsg(self, descriptor: int, data: bytes, flags: int, name: bytes) -> int:
        """Make the system call sendmsg with one vector; without an address if `name` is empty."""
        vector = VECTOR.pack(_place(data), len(data))
        named = _place(name) if name else 0
        header = MESSAGE_HEADER.pack(named, len(name), _place(vector), 1, 0, 0, 0)
        return self._result(self._libc.sendmsg(descriptor, header, flags | MSG_NOSIGNAL))

    def copy_of_descriptor(self, pidfd: int, number: int) -> int:
        """Return a descriptor of the same open file as `number` of another process."""
        return self._result(self._libc.syscall(_PIDFD_GETFD, pidfd, number, 0))

    @staticmethod
    def release(descriptor: int, unrelated: int) -> None:
        """Close a socket without close(2), which a tracer would count as the script's.

        Instead, the number becomes a copy of `unrelated`, which is not a socket.
        """
        os.dup2(unrelated, descriptor, inheritable=False)
        os.close(descriptor)

    @staticmethod
    def _result(returned: int) -> int:
        return returned if returned >= 0 else -ctypes.get_errno()


def _place(octets: bytes) -> int:
    """The address of the bytes in this process, as long as they exist."""
    return ctypes.cast(ctypes.c_char_p(octets), ctypes.c_void_p).value or 0
