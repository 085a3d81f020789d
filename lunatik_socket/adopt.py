# SPDX-License-Identifier: MIT
"""Making a socket object of an accepted descriptor without asking the kernel about it.

`_socket.socket(fileno=…)` always calls getsockname(2), to see that the descriptor is a socket.
After accept(2) that is known, so each accept would show up as two operations. CPython offers no way
around, but a socket object is a plain C struct:

    PyObject_HEAD; int fd, family, type, proto; void *errorhandler; int64_t timeout; …

`__new__` fills it but for the first four; those are written here. That the struct is so is proved
on an object that owns no descriptor, when this module is loaded; where the proof fails (another
Python, another build of it) the ordinary way is taken, and `EXTRA_SYSTEM_CALLS` says what it costs.
"""

from __future__ import annotations

import _socket
from struct import Struct
from typing import TypeVar

__all__ = ["EXTRA_SYSTEM_CALLS", "adopt"]

AnySocket = TypeVar("AnySocket", bound=_socket.socket)

_HEAD = object.__basicsize__
_NUMBERS = Struct("@4i")
_FIRST = Struct("@4iPq")
_TAIL = _HEAD + _FIRST.size
_TAIL_BYTES = _socket.socket.__basicsize__ - _TAIL
_NO_DESCRIPTOR = -1
_NO_TIMEOUT_NS = -1_000_000_000


def _proved() -> bool:
    try:
        from ctypes import memmove, string_at  # noqa: PLC0415 - not every Python is built with it
    except ImportError:
        return False
    if not 0 <= _TAIL_BYTES <= 8:
        return False
    trial = _socket.socket.__new__(_socket.socket)
    head = id(trial) + _HEAD
    *numbers, handler, timeout = _FIRST.unpack(string_at(head, _FIRST.size))
    if numbers != [_NO_DESCRIPTOR, 0, 0, 0] or not handler or timeout != _NO_TIMEOUT_NS:
        return False
    memmove(head, _NUMBERS.pack(0x7FFFFFFF, 2, 1, 6), _NUMBERS.size)
    seen = (trial.fileno(), trial.family, trial.type, trial.proto)
    memmove(head, _NUMBERS.pack(_NO_DESCRIPTOR, 0, 0, 0), _NUMBERS.size)
    return seen == (0x7FFFFFFF, 2, 1, 6) and trial.fileno() == _NO_DESCRIPTOR


if _proved():
    from ctypes import memmove

    EXTRA_SYSTEM_CALLS: dict[str, tuple[str, ...]] = {}

    def adopt(listener: AnySocket, descriptor: int) -> AnySocket:
        """Return a blocking socket object of `listener`'s class that owns `descriptor`."""
        kind = type(listener)
        child = kind.__new__(kind)
        numbers = _NUMBERS.pack(descriptor, listener.family, listener.type, listener.proto)
        memmove(id(child) + _HEAD, numbers, _NUMBERS.size)
        if _TAIL_BYTES:  # from Python 3.13 on: the module's state, the same for every socket
            memmove(id(child) + _TAIL, id(listener) + _TAIL, _TAIL_BYTES)
        return child

else:
    EXTRA_SYSTEM_CALLS = {"accept": ("getsockname",)}

    def adopt(listener: AnySocket, descriptor: int) -> AnySocket:
        """Return a blocking socket object of `listener`'s class that owns `descriptor`."""
        kind = type(listener)
        child = kind.__new__(kind)
        _socket.socket.__init__(
            child, listener.family, listener.type, listener.proto, fileno=descriptor
        )
        child.setblocking(True)  # the process's default time-out may have made it otherwise
        return child
