# SPDX-License-Identifier: MIT
"""The socket calls for Lua: arguments and results are plain values, and errors are results too.

The functions that `sender` and `receiver` return are on the path of every send and receive. They
return an integer: a size, or a negative errno. All other calls return `(True, values…)` or
`(False, cause)`. The cause is a negative errno or, for a wrong argument, a message.
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
_REFUSED = -errno.EIO
MemoryCall = Callable[[memoryview], int]


def code_of(error: OSError) -> int:
    """Return the error's code as the document defines it, a negative errno."""
    return -(error.errno or errno.EIO)


def error_name(code: int) -> str:
    """Return ` (ECONNREFUSED): Connection refused` for -111; empty if it is not an errno."""
    name = errno.errorcode.get(-code)
    return f" ({name}): {os.strerror(-code)}" if name else ""


def answering(call: Callable[..., Any]) -> Callable[..., Answer]:
    """Return a function that makes `call` and returns its result or error in Lua's form.

    Every exception is answered. One that reached the script as an object would keep its traceback,
    and with it the arguments and the local variables of every function that it passed.
    """

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
        except Exception as error:  # see above
            return False, f"{type(error).__name__}: {error}"
        return (True, *result) if type(result) is tuple else (True, result)

    return answer


# These functions are made once for each socket, when it first sends or receives. That saves passing
# the socket in each call and binding the C method each time: 5 % of a call of one byte.


def sender(sock: Socket) -> MemoryCall:
    """Return a function that sends a buffer and returns the size or the error's code."""
    send = super(Socket, sock).send

    def send_memory(memory: memoryview, flags: int = _socket.MSG_NOSIGNAL) -> int:
        try:
            return send(memory, flags)
        except OSError as error:
            return code_of(error)
        except Exception:  # see `answering`
            return _REFUSED

    return send_memory


def receiver(sock: Socket) -> MemoryCall:
    """Return a function that receives into a buffer and returns the size or the error's code."""
    recv_into = super(Socket, sock).recv_into

    def recv_memory(memory: memoryview) -> int:
        try:
            return recv_into(memory)
        except OSError as error:
            return code_of(error)
        except Exception:  # see `answering`
            return _REFUSED

    return recv_memory


def _octets(data: memoryview | str) -> memoryview | bytes:
    # The bytes of a table arrive as a string, one character for each byte.
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


def _recv_held(sock: Socket, size: int, flags: int | str) -> Answer:
    # The bytes stay here. Lua fetches them in parts (`text` in memory.py).
    data, got = sock.recv(size, flags)
    return memoryview(data), len(data), got


def _recv_into_flags(sock: Socket, memory: memoryview, flags: int | str) -> int:
    return sock.recv(memory, flags)[1]


def _recvmsg(sock: Socket, length: int, flags: int | str) -> Answer:
    data, size, msghdr = sock.recvmsg({"iov_len": length}, None, flags)
    return memoryview(data), len(data), size, *_described(msghdr)


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
    "recv_held": _recv_held,
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
"""The functions that Lua calls, by name."""
