# SPDX-License-Identifier: MIT
"""Makes a sandboxed script's calls that name an address, if the address is allowed.

A seccomp filter sees the arguments of a call, but an address is behind a pointer. So bind, connect,
listen and the calls that send to an address stop in the kernel, and come here as a notification.
The kernel could be told to go on with the script's own call (SECCOMP_USER_NOTIF_FLAG_CONTINUE), but
it would then read the address once more, after it was checked. Another thread, or a process that
can write to the script's memory, could exchange it in between. So the supervisor copies the
address, checks its copy, and makes the call itself with this copy, on a duplicate of the script's
descriptor. The result is the result of the script's call.

Each such call is one system call that a tracer counts, here instead of in the script's process: a
call that a filter has stopped never gets to the tracer's probes. The supervisor makes no other call
that the tracer counts as an operation, not even close(2) on a socket. The supervisor is the traced
command and the script is its child, so the counts are those of the script alone.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable

from tracer.kernel.architecture import architecture

from .addresses import Address, Allowed
from .kernel_calls import (
    MESSAGE_HEADER,
    VECTOR,
    Libc,
    Notification,
    address_in,
    answer,
    next_notification,
)

__all__ = ["Supervisor"]

_SOCKADDR_BYTES = 128  # sizeof(struct sockaddr_storage), the kernel's limit
_VECTORS = 1024  # UIO_MAXIOV
_COPIED_BYTES = 1 << 20  # of one call; a stream takes the rest by the next call
_BOUND_SOCKETS = 1 << 14
_COMPLAINTS = 10
_ANY_ADDRESS = socket.AF_INET.to_bytes(2, sys.byteorder) + bytes(14)  # 0.0.0.0:0


class _Refused(Exception):
    """The call is not made, and fails with this (positive) errno."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Supervisor:
    """Answers the notifications of one process, which has one thread.

    `script` is a pidfd of it, `memory` its /proc/PID/mem, `listener` the descriptor of its filter.
    """

    def __init__(self, script: int, memory: int, listener: int, allowed: Allowed) -> None:
        self._script, self._memory, self._listener = script, memory, listener
        self._allowed = allowed
        self._libc = Libc()
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._bound: OrderedDict[int, None] = OrderedDict()  # inode numbers of bound sockets
        self._refused: set[tuple[str, str]] = set()
        makers: dict[str, Callable[[Notification], int]] = {
            "bind": self._bind,
            "connect": self._connect,
            "listen": self._listen,
            "sendto": self._sendto,
            "sendmsg": self._sendmsg,
        }
        numbers = architecture().numbers
        self._makers = {numbers[name]: make for name, make in makers.items()}

    def run(self) -> None:
        """Answer until the process ends."""
        last: tuple[object, int] | None = None
        while True:
            try:
                asked = next_notification(self._listener)
            except FileNotFoundError:  # the call was given up before it got here
                continue
            # A stop (SIGSTOP, a frozen cgroup) interrupts a call that waits, and the kernel then
            # starts it again. The supervisor must not make the same call twice.
            result = last[1] if last and last[0] == asked.identity else self._make(asked)
            last = None
            try:
                answer(self._listener, asked, result)
            except FileNotFoundError:
                last = asked.identity, result

    def _make(self, asked: Notification) -> int:
        try:
            return self._makers[asked.call](asked)
        except _Refused as refused:
            return -refused.code
        except OSError as error:
            return -(error.errno or errno.EIO)
        except Exception:  # whatever a script passes, only its own call fails
            return -errno.EINVAL

    def _bind(self, asked: Notification) -> int:
        name = self._name(asked.arguments[1], asked.integer(2))
        self._check("bind to", name, self._allowed.may_listen, "--listen")

        def bind(descriptor: int) -> int:
            result = self._libc.bind(descriptor, name)
            if result == 0:
                self._bound[os.fstat(descriptor).st_ino] = None
                if len(self._bound) > _BOUND_SOCKETS:
                    self._bound.popitem(last=False)
            return result

        return self._on_copy(asked, bind)

    def _listen(self, asked: Notification) -> int:
        def listen(descriptor: int) -> int:
            # The kernel binds a socket that is not bound, to every address of the host.
            if os.fstat(descriptor).st_ino not in self._bound:
                self._check("listen on", _ANY_ADDRESS, self._allowed.may_listen, "--listen")
            return self._libc.listen(descriptor, asked.integer(1))

        return self._on_copy(asked, listen)

    def _connect(self, asked: Notification) -> int:
        name = self._name(asked.arguments[1], asked.integer(2))
        self._check("connect to", name, self._allowed.may_connect, "--connect")
        return self._on_copy(asked, lambda descriptor: self._libc.connect(descriptor, name))

    def _sendto(self, asked: Notification) -> int:
        _, data_at, size, _, name_at, _ = asked.arguments
        name = self._name(name_at, asked.integer(5))
        self._check("send to", name, self._allowed.may_connect, "--connect")
        data, flags = self._read(data_at, min(size, _COPIED_BYTES)), asked.integer(3)
        return self._on_copy(asked, lambda copy: self._libc.sendto(copy, data, flags, name))

    def _sendmsg(self, asked: Notification) -> int:
        header = MESSAGE_HEADER.unpack(self._read(asked.arguments[1], MESSAGE_HEADER.size))
        name_at, name_bytes, vectors_at, vectors, _, control_bytes, _ = header
        if control_bytes:
            raise _Refused(errno.EPERM)  # it can name another address, and pass descriptors
        if vectors > _VECTORS:
            raise _Refused(errno.EMSGSIZE)
        name = b""
        if name_at and name_bytes:
            name = self._name(name_at, min(name_bytes, _SOCKADDR_BYTES))
            self._check("send to", name, self._allowed.may_connect, "--connect")
        data, flags = self._gathered(vectors_at, vectors), asked.integer(2)
        return self._on_copy(asked, lambda copy: self._libc.sendmsg(copy, data, flags, name))

    def _gathered(self, at: int, number: int) -> bytes:
        parts, left = [], _COPIED_BYTES
        for start, size in VECTOR.iter_unpack(self._read(at, number * VECTOR.size)):
            parts.append(self._read(start, min(size, left)))
            left -= len(parts[-1])
        return b"".join(parts)

    def _on_copy(self, asked: Notification, make: Callable[[int], int]) -> int:
        copy = self._libc.copy_of_descriptor(self._script, asked.integer(0))
        if copy < 0:
            return copy
        try:
            return make(copy)
        finally:
            self._libc.release(copy, self._null)

    def _name(self, at: int, length: int) -> bytes:
        if not 0 <= length <= _SOCKADDR_BYTES:
            raise _Refused(errno.EINVAL)
        return self._read(at, length)

    def _read(self, at: int, size: int) -> bytes:
        try:
            octets = os.pread(self._memory, size, at) if size else b""
        except (OSError, OverflowError):
            raise _Refused(errno.EFAULT) from None
        if len(octets) < size:
            raise _Refused(errno.EFAULT)
        return octets

    def _check(self, what: str, name: bytes, may: Callable[[Address], bool], option: str) -> None:
        address = address_in(name)
        if address is None or not may(address):
            self._complain(what, address, option)
            raise _Refused(errno.EACCES)

    def _complain(self, what: str, address: Address | None, option: str) -> None:
        """Say once for each address what to allow; the script only gets EACCES."""
        shown = "an address that is not IPv4 or IPv6" if address is None else _shown(address)
        if (what, shown) in self._refused or len(self._refused) >= _COMPLAINTS:
            return
        self._refused.add((what, shown))
        hint = "" if address is None else f"; allow it with {option} {shown}"
        text = f"lunatik-socket: the sandbox does not allow to {what} {shown}{hint}\n"
        os.write(sys.stderr.fileno(), text.encode())


def _shown(address: Address) -> str:
    ip, port = address
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
