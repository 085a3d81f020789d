# SPDX-License-Identifier: MIT
"""The socket calls: each is one system call, made as directly as Python can.

`Socket` is a subclass of the C class of Python's own socket module. `send` and `recv` pass the
usual arguments (bytes, a memoryview, a size, integer flags) straight to the C method, so these
forms cost one Python frame more than Python's own. Every other form (lists of integers, `Data`,
letters for flags, wrong arguments) is checked and converted first.
"""

from __future__ import annotations

import _socket
from collections.abc import Sequence
from errno import EINPROGRESS
from os import O_NONBLOCK
from typing import Any, Literal, Protocol, Self, TypeVar, overload
from weakref import ref

from . import message
from .address import Address, endpoint, shown
from .buffers import filled, sendable, writable
from .errors import named
from .flags import MAX_FLAGS, flags_value
from .options import (
    LINGER_BYTES,
    family_number,
    find_option,
    option_value,
    pack_linger,
    type_number,
    unpack_linger,
)

__all__ = ["EXTRA_SYSTEM_CALLS", "CloseListener", "Socket", "new"]

EXTRA_SYSTEM_CALLS: dict[str, tuple[str, ...]] = {"accept": ("getsockname",)}
"""System calls that an operation makes besides its own, by operation.

CPython's socket class calls getsockname(2) on every descriptor that it is given, even when family,
type and protocol are given too. It has no public way to skip this check.
"""

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

_MAX_SIZE = (1 << 63) - 1
_NOSIGNAL = _socket.MSG_NOSIGNAL
_TRUNC = _socket.MSG_TRUNC
_DO_NOT_WAIT = _socket.MSG_DONTWAIT | O_NONBLOCK
_SHUTDOWN = {"r": _socket.SHUT_RD, "w": _socket.SHUT_WR, "rw": _socket.SHUT_RDWR}


class CloseListener(Protocol):
    """An object that a socket tells before it closes, such as a poll."""

    def member_closed(self, sock: Socket) -> None:
        """Handle the close of `sock`, whose descriptor is still open."""


def new(family: str = "inet", type: str = "tcp") -> Socket:
    """Return a new socket.

    `family` is `"inet"` or `"i"`; `type` is `"tcp"`, `"t"`, `"udp"` or `"u"`. Another name raises
    `ValueError`. `OSError` if the kernel refuses.
    """
    return Socket(family, type)


class Socket(_Base):
    """An IPv4 TCP or UDP socket with the documented calls. Made by `new` and by `accept`.

    Wrong arguments raise `TypeError` or `ValueError` before any system call. A call that the kernel
    refuses raises the subclass of `OSError` that belongs to the errno. Methods that are inherited
    from Python's socket class and not defined here are not part of the API.
    """

    __slots__ = ("__weakref__", "_close_listeners", "_local", "_peer")

    # Known from connect, accept and bind. Used in error messages and by recvmsg, which must not
    # make another system call to find them out.
    _peer: Address | None
    _local: Address | None
    _close_listeners: list[ref[CloseListener]] | None

    def __init__(self, family: str = "inet", type: str = "tcp") -> None:
        self._peer = self._local = self._close_listeners = None
        try:
            _init(self, family_number(family), type_number(type))
        except OSError as error:
            raise named(error, "make", f"{family} {type} socket") from None
        if _socket.getdefaulttimeout() is not None:
            self.setblocking(True)  # the documented calls block, whatever the process's default is

    def __del__(self) -> None:
        try:  # noqa: SIM105 - contextlib.suppress takes longer than the rest of this method
            _close(self)
        except OSError:
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = {_socket.SOCK_STREAM: "tcp", _socket.SOCK_DGRAM: "udp"}
        return f"<lunatik_socket.Socket {names.get(self.type, self.type)} {self._shown()}>"

    # ------------------------------------------------------------------ names and connections

    def bind(self, ip: str | int, port: int) -> None:  # type: ignore[override]
        """Give the socket the local address `ip` and `port` (0: the kernel picks one)."""
        address = endpoint(ip, port, 0)
        try:
            _bind(self, address)
        except OSError as error:
            raise named(error, "bind to", shown(address)) from None
        self._local = address

    def listen(self, backlog: int) -> None:  # type: ignore[override]
        """Let clients connect. Up to `backlog` connections (positive) queue until accepted."""
        message.positive_length("backlog", backlog, 31)
        try:
            _listen(self, backlog)
        except OSError as error:
            raise self._failed("listen on", error) from None

    def accept(self, flags: int | str = 0) -> Self:
        """Return the socket of the next connection; with flag `D` fail with EAGAIN if none waits.

        Makes accept4(2) and, in Python's socket class, getsockname(2). accept4(2) has no flag like
        `D`: the listener is put into non-blocking mode for this one call, with two ioctl(2), unless
        it is in that mode already.
        """
        try:
            if flags and flags_value(flags) & _DO_NOT_WAIT:
                with _NonBlocking(self):
                    descriptor, peer = _accept(self)
            else:
                descriptor, peer = _accept(self)
        except OSError as error:
            raise self._failed("accept on", error) from None
        child = self._accepted(descriptor)
        child._peer = peer
        child._local = self._local
        child._close_listeners = None
        return child

    def _accepted(self, descriptor: int) -> Self:
        # Not `type(self)()`: that would make a new socket.
        child = type(self).__new__(type(self))
        _init(child, self.family, self.type, self.proto, descriptor)
        if _socket.getdefaulttimeout() is not None:
            child.setblocking(True)
        return child

    def connect(self, ip: str | int, port: int, flags: int | str = 0) -> None:  # type: ignore[override]
        """Connect to `ip` and `port`; with flag `D` fail with EINPROGRESS instead of waiting.

        After EINPROGRESS the socket can be written when the attempt is over (see `Poll`), and
        `getsockopt("s", "e")` returns its result. `D` costs two ioctl(2), as in `accept`.
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
        """Return the peer's address, `(ip, port)`."""
        try:
            address: Address = _getpeername(self)
        except OSError as error:
            raise self._failed("get the peer's name of", error) from None
        self._peer = address
        return address

    @property
    def peer(self) -> Address | None:
        """The peer's address from accept, connect or getpeername, without a system call.

        An addition to the document. It stays after the connection is closed, so that a log can
        still name the peer.
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
        if self._close_listeners is not None:
            self._tell_close_listeners()
        try:
            _close(self)
        except OSError as error:
            raise self._failed("close", error) from None

    def detach(self) -> int:
        """Return the descriptor and give up its ownership; this object is closed from then on."""
        if self._close_listeners is not None:
            self._tell_close_listeners()
        return super().detach()

    def _add_close_listener(self, reference: ref[CloseListener]) -> None:
        if self._close_listeners is None:
            self._close_listeners = [reference]
        else:
            self._close_listeners.append(reference)

    def _remove_close_listener(self, reference: ref[CloseListener]) -> None:
        if self._close_listeners is not None:
            self._close_listeners.remove(reference)

    def _tell_close_listeners(self) -> None:
        for reference in self._close_listeners or ():
            listener = reference()
            if listener is not None:
                listener.member_closed(self)
        self._close_listeners = None

    # ------------------------------------------------------------------ sending

    def send(self, data: Any, flags: int | str = 0) -> int:
        """Send `data` to the peer and return how many bytes the kernel took.

        `data` is bytes-like, a list of integers (each modulo 256), or a `Data`. Empty data raises
        `ValueError`. `flags` is an addition to the document.
        """
        if type(data) is memoryview:
            is_plain = data.c_contiguous and data.nbytes > 0
        else:
            is_plain = type(data) is bytes and data != b""
        if not is_plain or type(flags) is not int or not 0 <= flags <= MAX_FLAGS:
            return self._send_checked(data, flags)
        try:
            return _send(self, data, flags | _NOSIGNAL)
        except OSError as error:
            raise self._failed("send to", error) from None

    def _send_checked(self, data: Any, flags: int | str) -> int:
        octets = sendable(data)
        if not memoryview(octets).nbytes:
            raise ValueError("data can not be empty")
        number = flags_value(flags or 0) | _NOSIGNAL
        try:
            return _send(self, octets, number)
        except OSError as error:
            raise self._failed("send to", error) from None

    def sendmsg(self, msghdr: message.MsgHdr, data: Any = None) -> int:  # type: ignore[override]
        """Send `data` as one message and return how many bytes the kernel took.

        `msghdr` may hold `name`, the destination, and `flags`. `data` is as for `send`. None, an
        empty list and an empty `Data` raise `ValueError`; an empty bytes-like object is sent as an
        empty datagram.
        """
        name = message.destination(message.checked(msghdr))
        flags = message.send_flags(msghdr) | _NOSIGNAL
        if data is None:
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

        `target` is either the maximum number of bytes (`data` is then `bytes`), or the buffer to
        receive into, a writable bytes-like object or a `Data` (`data` is then this buffer). `flags`
        is an addition to the document.
        """
        if type(flags) is not int or not 0 <= flags <= MAX_FLAGS:
            flags = flags_value(flags or 0)
        try:
            if isinstance(target, int):
                if 0 < target <= _MAX_SIZE and not flags & _TRUNC:
                    data = _recv(self, target, flags)
                    return data, len(data)
            elif (
                type(target) is memoryview
                and not target.readonly
                and target.c_contiguous
                and target.nbytes
            ):
                return target, _recv_into(self, target, 0, flags)
        except OSError as error:
            raise self._failed("recv from", error) from None
        return self._recv_checked(target, flags)

    def _recv_checked(self, target: Any, flags: int) -> tuple[Any, int]:
        if not isinstance(target, int):
            return target, self._recv_into(writable(target), flags)
        memory = memoryview(bytearray(message.positive_length("size", target)))
        size = self._recv_into(memory, flags)
        return filled(memory, size), size

    def _recv_into(self, buffer: Any, flags: int) -> int:
        try:
            return _recv_into(self, buffer, 0, flags)
        except OSError as error:
            raise self._failed("recv from", error) from None

    def recvmsg(  # type: ignore[override]
        self, msghdr: message.MsgHdr, buffer: Any = None, flags: int | str = 0
    ) -> tuple[Any, int, message.MsgHdr]:
        """Receive one message and return `(data, size, msghdr)`.

        `msghdr["iov_len"]` is the maximum number of bytes, unless a `buffer` to receive into is
        given. The same dict is returned, with `iov_len`, `flags` (as the kernel set them) and
        `name` (the sender's address). `flags` may be passed in the position of `buffer`.
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

    # ------------------------------------------------------------------ error messages

    def _failed(self, action: str, error: OSError) -> OSError:
        return named(error, action, self._shown())

    def _shown(self) -> str:
        address = self._peer or self._local
        return shown(address) if address else f"descriptor {self.fileno()}"


class _NonBlocking:
    """Puts a socket into non-blocking mode, and restores its mode at the end."""

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
