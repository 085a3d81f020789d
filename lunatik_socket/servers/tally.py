# SPDX-License-Identifier: MIT
"""A server's own count of the documented calls it makes, to compare with a tracer's counts.

A server uses the counting classes only on request, so a server without a tally pays nothing.
A tally includes the system calls that Python adds to a call (`EXTRA_SYSTEM_CALLS`). It does not
include an epoll_wait(2) that Python makes again after a signal, nor the sockets that the C library
opens to resolve a name.
"""

from collections import Counter
from collections.abc import Callable
from errno import errorcode
from typing import Any, TypeVar

from lunatik_socket import EXTRA_SYSTEM_CALLS, Poll, Socket

__all__ = ["Tally", "counted_poll", "counted_socket"]

SocketClass = TypeVar("SocketClass", bound=Socket)
Key = TypeVar("Key")

_SOCKET_CALLS = (
    *("bind", "listen", "accept", "connect", "send", "recv", "sendmsg", "recvmsg"),
    *("getsockname", "getpeername", "getsockopt", "setsockopt"),
)
# How to get the number of bytes moved from a call's result.
_BYTES_OF: dict[str, Callable[[Any], int]] = {
    "send": lambda result: result,
    "sendmsg": lambda result: result,
    "recv": lambda result: result[1],
    "recvmsg": lambda result: result[1],
}


class Tally:
    """Calls made, calls failed by errno name, and bytes moved, by operation.

    Only one thread may count in a tally. Any thread may add tallies.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.errors: Counter[tuple[str, str]] = Counter()
        self.bytes: Counter[str] = Counter()

    def __add__(self, other: "Tally") -> "Tally":
        total = Tally()
        total.calls = _sum(self.calls, other.calls)
        total.errors = _sum(self.errors, other.errors)
        total.bytes = _sum(self.bytes, other.bytes)
        return total

    def failed(self, operation: str, error: OSError) -> None:
        """Count a call that the kernel refused."""
        self.calls[operation] += 1
        self.errors[operation, errorcode.get(error.errno or 0, str(error.errno))] += 1


def counted_socket(kind: type[SocketClass], tally: Tally) -> type[SocketClass]:
    """Return a subclass of the socket class `kind` that counts its calls in `tally`."""

    def close(self: Socket) -> None:
        tally.calls["close"] += self.fileno() >= 0  # a second close is no call
        kind.close(self)

    members: dict[str, object] = {
        name: _counted(name, getattr(kind, name), tally) for name in _SOCKET_CALLS
    }
    members |= {"__slots__": (), "close": close}
    members["__init__"] = _counted("new", kind.__init__, tally)
    return type(f"Counted{kind.__name__}", (kind,), members)


def counted_poll(tally: Tally) -> type[Poll]:
    """Return a subclass of `Poll` that counts its calls in `tally`."""
    return type(
        "CountedPoll",
        (Poll,),
        {
            "__slots__": (),
            "__init__": _counted("poll", Poll.__init__, tally),
            "wait": _counted("select", Poll.wait, tally),
        },
    )


def _counted(operation: str, call: Callable[..., Any], tally: Tally) -> Callable[..., Any]:
    calls, moved, bytes_of = tally.calls, tally.bytes, _BYTES_OF.get(operation)
    made = (operation, *EXTRA_SYSTEM_CALLS.get(operation, ()))

    def counted(self: object, *arguments: Any) -> Any:
        try:
            result = call(self, *arguments)
        except OSError as error:
            tally.failed(operation, error)
            raise
        for name in made:
            calls[name] += 1
        if bytes_of:
            moved[operation] += bytes_of(result)
        return result

    return counted


def _sum(one: Counter[Key], other: Counter[Key]) -> Counter[Key]:
    # Each is copied in one step, because its thread may still be counting.
    return Counter(dict(one)) + Counter(dict(other))
