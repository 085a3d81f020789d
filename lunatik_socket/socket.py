# SPDX-License-Identifier: MIT
"""The socket calls: each is one system call, made as directly as Python can.

`Socket` stands on the C class of Python's own socket module. Every call hands its arguments to the
C method first and looks at them only if that refuses them, which it does before any system call; so
the usual forms cost one Python frame more than Python's own, and the rarer ones (lists of integers,
`Data`, letters for flags) are sorted out behind.
"""

from __future__ import annotations

import _socket
from collections.abc import Sequence
from errno import EINPROGRESS
from os import O_NONBLOCK
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from . import message
from .address import Address, endpoint, shown
from .adopt import adopt
from .buffers import filled, sendable, writable
from .data import Data
from .errors import named, raised_by_handler
from .flags import flags_value
from .options import (
    LINGER_BYTES,
    family_number,
    find_option,
    option_value,
    pack_linger,
    type_number,
    unpack_linger,
)

if TYPE_CHECKING:
    from types import TracebackType
    from weakref import ref

    from .poll import Poll

__all__ = ["Socket", "new"]

Memory = TypeVar("Memory")

_Base = _socket.socket
_accept = _Base._accept  # type: ignore[attr-defined]
_bind = _Base.bind
_close = _Base.close
_connect = _Base.connect
_getpeername = _Base.getpeername
_getsockname = _Base.getsockname
_getsockopt = _Base.getsockopt
_init = _Base.__init__
_listen = _Base.listen
_recv = _Base.recv
_recv_into = _Base.recv_into
_recvmsg = _Base.recvmsg
_recvmsg_into = _Base.recvmsg_into
_send = _Base.send
_sendmsg = _Base.sendmsg
_setsockopt = _Base.setsockopt
_shutdown = _Base.shutdown

_NOSIGNAL = _socket.MSG_NOSIGNAL
_TRUNC = _socket.MSG_TRUNC
_DO_NOT_WAIT = _socket.MSG_DONTWAIT | O_NONBLOCK
_SHUTDOWN = {"r": _socket.SHUT_RD, "w": _socket.SHUT_WR, "rw": _socket.SHUT_RDWR}


def new(family: str = "inet", type: str = "tcp") -> Socket:
    """Return a new socket.

    `family` is `"inet"` or `"i"`; `type` is `"tcp"`, `"t"`, `"udp"` or `"u"`. Another name is a
    `ValueError`; `OSError` if the kernel refuses.
    """
    return Socket(family, type)


class Socket(_Base):
    """An IPv4 TCP or UDP socket with the documented calls; made by `new` and by `accept`.

    Wrong arguments raise `TypeError` or `ValueError` before any system call. What the kernel
    refuses raises `OSError`, of the subclass that belongs to its errno. What this class inherits
    from Python's own and does not define itself is no part of the API.
    """

    __slots__ = ("__weakref__", "_local", "_peer", "_polls")

    # Known from connect, accept and bind; for messages and recvmsg, which may not ask the kernel.
    _peer: Address | None
    _local: Address | None
    _polls: list[ref[Poll]] | None

    def __init__(self, family: str = "inet", type: str = "tcp") -> None:
        self._peer = self._local = self._polls = None
        try:
            _init(self, family_number(family), type_number(type))
        except OSError as error:
            raise named(error, "make", f"{family} {type} socket") from None
        if _socket.getdefaulttimeout() is not None:
            self.setblocking(True)  # the documented calls block, whatever the process's default

    def __del__(self) -> None:
        try:  # noqa: SIM105 - contextlib.suppress takes longer than all the rest
            _close(self)
        except OSError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        names = {_socket.SOCK_STREAM: "tcp", _socket.SOCK_DGRAM: "udp"}
        return f"<lunatik_socket.Socket {names.get(self.type, self.type)} {self._shown()}>"

    # ------------------------------------------------------------------ names and connections

    def bind(self, ip: str | int, port: int) -> None:  # type: ignore[override]
        """Give the socket the local address `ip` and `port` (0: one that the kernel picks)."""
        address = endpoint(ip, port, 0)
        try:
            _bind(self, address)
        except OSError as error:
            raise named(error, "bind to", shown(address)) from None
        self._local = address

    def listen(self, backlog: int) -> None:  # type: ignore[override]
        """Wait for connections; up to `backlog` of them (positive) queue until accepted."""
        message.positive_length("backlog", backlog, 31)
        try:
            _listen(self, backlog)
        except OSError as error:
            raise self._failed("listen on", error) from None

    def accept(self, flags: int | str = 0) -> Self:
        """Return the socket of the next connection; with flag `D` fail with EAGAIN if none waits.

        accept4(2) has no such flag: `D` puts the listener into non-blocking mode for this one call,
        by two ioctl(2), unless it is in that mode anyway.
        """
        try:
            if flags and flags_value(flags) & _DO_NOT_WAIT:
                with _NonBlocking(self):
                    descriptor, peer = _accept(self)
            else:
                descriptor, peer = _accept(self)
        except OSError as error:
            raise self._failed("accept on", error) from None
        child = adopt(self, descriptor)
        child._peer = peer
        child._local = self._local
        child._polls = None
        return child

    def connect(self, ip: str | int, port: int, flags: int | str = 0) -> None:  # type: ignore[override]
        """Connect to `ip` and `port`; with flag `D` fail with EINPROGRESS instead of waiting.

        Then `Poll` tells by "can be written" when it is done, and `getsockopt("s", "e")` how it
        ended. `D` costs what it costs in `accept`.
        """
        address = endpoint(ip, port)
        try:
            if flags and flags_value(flags) & _DO_NOT_WAIT:
                with _NonBlocking(self):
                    _connect(self, address)
            else:
                _connect(self, address)
        except OSError as error:
            if error.errno == EINPROGRESS:
                self._peer = address
            raise named(error, "connect to", shown(address)) from None
        self._peer = address

    def getsockname(self) -> Address:
        """Return the local address, `(ip, port)`."""
        try:
            address: Address = _getsockname(self)
        except OSError as error:
            raise self._failed("get the local name of", error) from None
        self._local = address
        return address

    def getpeername(self) -> Address:
        """Return the other side's address, `(ip, port)`."""
        try:
            address: Address = _getpeername(self)
        except OSError as error:
            raise self._failed("get the peer's name of", error) from None
        self._peer = address
        return address

    @property
    def peer(self) -> Address | None:
        """The peer's address as accept, connect or getpeername told it; without a system call.

        An addition to the document. It outlives the connection, so a log can still name who left.
        """
        return self._peer

    def shutdown(self, how: Literal["r", "w", "rw"] = "w") -> None:  # type: ignore[override]
        """End one direction or both: `"w"` sends the end of stream. An addition to the document."""
        if how not in _SHUTDOWN:
            raise ValueError(f'invalid direction {how!r}: must be "r", "w" or "rw"')
        try:
            _shutdown(self, _SHUTDOWN[how])
        except OSError as error:
            raise self._failed("shut down", error) from None

    def close(self) -> None:
        """Release the socket; a second call does nothing."""
        if self._polls is not None:
            self._leave_polls()
        try:
            _close(self)
        except OSError as error:
            raise self._failed("close", error) from None

    def detach(self) -> int:
        """Return the descriptor, no longer owned; to this object it is as if closed."""
        if self._polls is not None:
            self._leave_polls()
        return super().detach()

    def _leave_polls(self) -> None:
        for reference in self._polls or ():
            poll = reference()
            if poll is not None:
                poll._member_closed(self)
        self._polls = None

    # ------------------------------------------------------------------ sending

    def send(self, data: Any, flags: int | str = 0) -> int:
        """Send `data` to the peer and return how many bytes were taken.

        `data` is bytes-like, a list of integers (each modulo 256), or a `Data`.
        """
        try:
            if not flags:
                return _send(self, data, _NOSIGNAL)
            if type(flags) is int and flags > 0:
                return _send(self, data, flags | _NOSIGNAL)
        except OSError as error:
            raise self._failed("send to", error) from None
        except (TypeError, OverflowError, BufferError) as error:
            if raised_by_handler(error):
                raise
        return self._send_checked(sendable(data), flags_value(flags or 0))

    def _send_checked(self, data: bytes | memoryview, flags: int) -> int:
        try:
            return _send(self, data, flags | _NOSIGNAL)
        except OSError as error:
            raise self._failed("send to", error) from None

    def sendmsg(self, msghdr: message.MsgHdr, data: Any = None) -> int:  # type: ignore[override]
        """Send `data` as one message and return how many bytes were taken.

        `msghdr` may hold `name`, the destination, and `flags`. `data` is as for `send`; None or an
        empty list is a `ValueError`.
        """
        name = message.destination(message.checked(msghdr))
        flags = message.send_flags(msghdr) | _NOSIGNAL
        if data is None or (isinstance(data, list | tuple) and not data):
            raise ValueError("data can not be empty")
        parts = [sendable(data)]
        try:
            if name is None:
                return _sendmsg(self, parts, (), flags)
            return _sendmsg(self, parts, (), flags, name)
        except OSError as error:
            where = self._shown() if name is None else shown(name)
            raise named(error, "sendmsg to", where) from None

    # ------------------------------------------------------------------ receiving

    @overload  # type: ignore[override]
    def recv(self, target: int, flags: int | str = 0) -> tuple[bytes, int]: ...

    @overload
    def recv(self, target: Memory, flags: int | str = 0) -> tuple[Memory, int]: ...

    def recv(self, target: Any, flags: int | str = 0) -> tuple[Any, int]:
        """Receive and return `(data, size)`; a stream at its end gives size 0.

        `target` is how many bytes at most (`data` is then `bytes`), or a buffer to receive into: a
        writable bytes-like object or a `Data`, which is then `data`.
        """
        try:
            if type(target) is int:
                if not flags:
                    data = _recv(self, target)
                    if data or target:
                        return data, len(data)
            elif not flags or (type(flags) is int and flags > 0):
                memory = target._memory if type(target) is Data else target
                size = _recv_into(self, memory, 0, flags) if flags else _recv_into(self, memory)
                if size or memoryview(memory).nbytes:
                    return target, size
        except OSError as error:
            raise self._failed("recv from", error) from None
        except (TypeError, ValueError, OverflowError, BufferError) as error:
            if raised_by_handler(error):
                raise
        # Refused before any system call, as is a receive of nothing; or a rarer form of the call.
        return self._recv_checked(target, flags_value(flags or 0))

    def _recv_checked(self, target: Any, flags: int) -> tuple[Any, int]:
        if not isinstance(target, int):
            return target, self._recv_into(writable(target), flags)
        length = message.positive_length("size", target)
        if flags & _TRUNC:
            memory = memoryview(bytearray(length))
            size = self._recv_into(memory, flags)
            return filled(memory, size), size
        try:
            data = _recv(self, length, flags)
        except OSError as error:
            raise self._failed("recv from", error) from None
        return data, len(data)

    def _recv_into(self, buffer: Any, flags: int) -> int:
        try:
            return _recv_into(self, buffer, 0, flags)
        except OSError as error:
            raise self._failed("recv from", error) from None

    def recvmsg(  # type: ignore[override]
        self, msghdr: message.MsgHdr, buffer: Any = None, flags: int | str = 0
    ) -> tuple[Any, int, message.MsgHdr]:
        """Receive one message and return `(data, size, msghdr)`.

        `msghdr["iov_len"]` is how many bytes at most, or `buffer` is received into. The same dict
        comes back with `iov_len`, `flags` (the kernel's) and `name`, the sender's address. `flags`
        may stand in the place of `buffer`.
        """
        message.checked(msghdr)
        if isinstance(buffer, int | str):
            buffer, flags = None, buffer
        number = flags_value(flags) if flags else 0
        if buffer is not None or number & _TRUNC:
            return self._recvmsg_into(msghdr, buffer, number)
        length = message.length_wanted(msghdr)
        try:
            data, _, got_flags, source = _recvmsg(self, length, 0, number)
        except OSError as error:
            raise self._failed("recvmsg from", error) from None
        message.describe(msghdr, length, got_flags, source or self._peer)
        return data, len(data), msghdr

    def _recvmsg_into(
        self, msghdr: message.MsgHdr, buffer: Any, flags: int
    ) -> tuple[Any, int, message.MsgHdr]:
        given = buffer is not None
        memory = writable(buffer if given else bytearray(message.length_wanted(msghdr)))
        try:
            size, _, got_flags, source = _recvmsg_into(self, (memory,), 0, flags)
        except OSError as error:
            raise self._failed("recvmsg from", error) from None
        message.describe(msghdr, len(memory), got_flags, source or self._peer)
        return buffer if given else filled(memory, size), size, msghdr

    # ------------------------------------------------------------------ options

    def getsockopt(self, level: str, optname: str) -> Any:  # type: ignore[override]
        """Return the option's integer; for `l` (SO_LINGER) two, `(on, seconds)`."""
        option = find_option(level, optname)
        try:
            if option.is_linger:
                return unpack_linger(_getsockopt(self, option.level, option.number, LINGER_BYTES))
            return _getsockopt(self, option.level, option.number)
        except OSError as error:
            raise self._failed(f'get option "{optname}" of', error) from None

    def setsockopt(self, level: str, optname: str, val: int | Sequence[int]) -> None:  # type: ignore[override]
        """Set the option to `val`, an integer; for `l` (SO_LINGER) two, `(on, seconds)`."""
        option = find_option(level, optname)
        value = pack_linger(val) if option.is_linger else option_value(val)
        try:
            _setsockopt(self, option.level, option.number, value)
        except OSError as error:
            raise self._failed(f'set option "{optname}" of', error) from None

    # ------------------------------------------------------------------ behind the calls

    def _failed(self, action: str, error: OSError) -> OSError:
        return named(error, action, self._shown())

    def _shown(self) -> str:
        address = self._peer or self._local
        return shown(address) if address else f"descriptor {self.fileno()}"


class _NonBlocking:
    """Puts a socket into non-blocking mode, and back into the mode it had."""

    __slots__ = ("_socket", "_timeout")

    def __init__(self, sock: Socket) -> None:
        self._socket = sock
        self._timeout = sock.gettimeout()

    def __enter__(self) -> None:
        if self._timeout != 0:
            self._socket.setblocking(False)

    def __exit__(self, *_: object) -> None:
        if self._timeout != 0:
            self._socket.settimeout(self._timeout)
