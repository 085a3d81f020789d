# SPDX-License-Identifier: MIT
"""The socket calls as Lua makes them: plain values in and out, and errors as values.

The two calls of a busy script, which `sender` and `receiver` make, answer with an integer: a size,
or an errno made negative. Every other answers `(True, values…)`, or `(False, cause)`, where the
cause is such a code or, for a wrong argument, a message.
"""

from __future__ import annotations

import _socket
import errno
import functools
import os
from collections.abc import Callable
from typing import Any

from .. import message
from ..poll import Poll, poll
from ..socket import Socket, new

__all__ = ["CALLS", "answering", "error_name"]

Answer = tuple[Any, ...]
MemoryCall = Callable[[memoryview], int]


def code_of(error: OSError) -> int:
    """Return the error's code as the document has it: negative."""
    return -(error.errno or errno.EIO)


def error_name(code: int) -> str:
    """Return ` (ECONNREFUSED): Connection refused` for -111; empty for what is no errno."""
    name = errno.errorcode.get(-code)
    return f" ({name}): {os.strerror(-code)}" if name else ""


def answering(call: Callable[..., Any]) -> Callable[..., Answer]:
    """Make `call` answer as Lua wants it, whatever it returns or raises."""

    @functools.wraps(call)
    def answer(*arguments: Any) -> Answer:
        try:
            result = call(*arguments)
        except OSError as error:
            return False, code_of(error)
        except (TypeError, ValueError, OverflowError) as error:
            return False, str(error)
        except MemoryError:
            return False, "not enough memory"
        return (True, *result) if type(result) is tuple else (True, result)

    return answer


# A function for each socket, made when it first sends or receives: one value less to hand over in
# each call, and C's method is bound but once. That is 5 % of a call of one byte.


def sender(sock: Socket) -> MemoryCall:
    """Return what sends a buffer's bytes: their number, or the error's code."""
    send = super(Socket, sock).send

    def send_memory(memory: memoryview, flags: int = _socket.MSG_NOSIGNAL) -> int:
        try:
            return send(memory, flags)
        except OSError as error:
            return code_of(error)

    return send_memory


def receiver(sock: Socket) -> MemoryCall:
    """Return what receives into a buffer: the number of bytes, or the error's code."""
    recv_into = super(Socket, sock).recv_into

    def recv_memory(memory: memoryview) -> int:
        try:
            return recv_into(memory)
        except OSError as error:
            return code_of(error)

    return recv_memory


def _octets(data: memoryview | str) -> memoryview | bytes:
    # A table's bytes come as a string, one character each.
    return data.encode("latin-1") if isinstance(data, str) else data


def _send_any(sock: Socket, data: memoryview | str, flags: int | str) -> int:
    return sock.send(_octets(data), flags)


def _sendmsg(
    sock: Socket, data: memoryview | str, flags: int | str, ip: str | int | None, port: int | None
) -> int:
    msghdr: message.MsgHdr = {"flags": flags}
    if ip is not None:
        msghdr["name"] = (ip, port)
    return sock.sendmsg(msghdr, _octets(data))


def _recv(sock: Socket, size: int, flags: int | str) -> tuple[bytes, int]:
    return sock.recv(size, flags)


def _recv_into_flags(sock: Socket, memory: memoryview, flags: int | str) -> int:
    return sock.recv(memory, flags)[1]


def _recvmsg(sock: Socket, length: int, flags: int | str) -> Answer:
    data, size, msghdr = sock.recvmsg({"iov_len": length}, None, flags)
    return data, size, *_described(msghdr)


def _recvmsg_into(sock: Socket, memory: memoryview, flags: int | str) -> Answer:
    _, size, msghdr = sock.recvmsg({}, memory, flags)
    return size, *_described(msghdr)


def _described(msghdr: message.MsgHdr) -> Answer:
    name = msghdr.get("name")
    return (msghdr["flags"], name["addr"], name["port"]) if name else (msghdr["flags"],)


def _setsockopt(sock: Socket, level: str, optname: str, val: int, seconds: int | None) -> None:
    sock.setsockopt(level, optname, val if seconds is None else (val, seconds))


def _poll(*socks: Socket) -> Poll:
    return poll(socks)


def _select(members: Poll, timeout_ms: float | None) -> int | None:
    found = members.select(timeout_ms)
    return found[0] if found else None


_ANSWERED: dict[str, Callable[..., Any]] = {
    "new": new,
    "bind": Socket.bind,
    "listen": Socket.listen,
    "accept": Socket.accept,
    "connect": Socket.connect,
    "close": Socket.close,
    "getsockname": Socket.getsockname,
    "getpeername": Socket.getpeername,
    "getsockopt": Socket.getsockopt,
    "setsockopt": _setsockopt,
    "send": _send_any,
    "sendmsg": _sendmsg,
    "recv": _recv,
    "recv_into": _recv_into_flags,
    "recvmsg": _recvmsg,
    "recvmsg_into": _recvmsg_into,
    "poll": _poll,
    "select": _select,
}

CALLS: dict[str, Callable[..., Any]] = {
    "sender": sender,
    "receiver": receiver,
    **{name: answering(call) for name, call in _ANSWERED.items()},
}
"""What Lua calls, by name."""
