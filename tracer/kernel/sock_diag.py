# SPDX-License-Identifier: MIT
"""The sockets that exist now: addresses, state and queues, from the kernel's NETLINK_SOCK_DIAG.

The requests and answers are those of sock_diag(7). A library would do, but pyroute2 0.9 takes two
seconds for ten thousand sockets, and this takes a tenth of a second.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from tracer.kernel.namespaces import inside, processes_of_namespaces
from tracer.model.connections import TcpState

__all__ = ["SocketInfo", "sockets", "sockets_of_namespaces"]

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ALL_STATES = 0xFFFFFFFF
_BUFFER_BYTES = 1 << 18

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence number, port
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

_INET_REQUEST = struct.Struct("=BBBxI48x")  # inet_diag_req_v2: family, protocol, ext, states
# inet_diag_msg: family, state, two ports, two addresses, and the last five of its numbers:
# expires, rqueue, wqueue, uid, inode
_INET_ANSWER = struct.Struct("=BBxx2s2s16s16s12xIIIII")
_SKMEMINFO = 7  # INET_DIAG_SKMEMINFO
_DROPS = struct.Struct("=32xI")  # SK_MEMINFO_DROPS, the ninth number of SKMEMINFO

_UNIX_REQUEST = struct.Struct("=BBxxIII8x")  # unix_diag_req: family, protocol, states, inode, show
_UNIX_ANSWER = struct.Struct("=BBBxI8x")  # unix_diag_msg: family, type, state, inode
_UNIX_SHOW = 0x01 | 0x04 | 0x10  # UDIAG_SHOW_NAME, UDIAG_SHOW_PEER, UDIAG_SHOW_RQLEN
_UNIX_NAME, _UNIX_PEER, _UNIX_QUEUES = 0, 2, 4
_QUEUES = struct.Struct("=II")
_NUMBER = struct.Struct("=I")

_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
_STATES = frozenset(TcpState)
_V4_MAPPED = bytes(10) + b"\xff\xff"


class SocketInfo(NamedTuple):
    """One socket, as the kernel describes it.

    `inode` is what `ss -e` and /proc/PID/fd show. The queues are in bytes; those of a listener are
    the number of connections that wait for accept and the limit of that number. `drops` is how much
    the socket has dropped, if that was asked for. `peer_inode` is that of a unix socket's peer.
    """

    inode: int
    transport: str
    state: int
    local: tuple[bytes, int]
    peer: tuple[bytes, int]
    receive_queue: int
    send_queue: int
    drops: int = 0
    peer_inode: int = 0

    @property
    def state_name(self) -> str:
        """Such as "ESTABLISHED". Protocols other than TCP use some of its states, too."""
        return TcpState(self.state).name if self.state in _STATES else str(self.state)

    @property
    def local_text(self) -> str:
        """Such as "127.0.0.1:80", "[::1]:80", "/run/a.sock", "@abstract" or ""."""
        return _text(self.transport, *self.local)

    @property
    def peer_text(self) -> str:
        """The same for the peer; "" if there is none."""
        return _text(self.transport, *self.peer) if self.peer[1] else ""


def _text(transport: str, raw: bytes, port: int) -> str:
    if transport == "unix":
        name = raw.removesuffix(b"\0") if raw[:1] != b"\0" else b"@" + raw[1:]
        return name.decode(errors="backslashreplace")
    host = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    return f"{host}:{port}" if len(raw) == 4 else f"[{host}]:{port}"


def sockets_of_namespaces(
    transports: tuple[str, ...] = ("tcp", "udp", "unix"), *, states: int = _ALL_STATES
) -> Iterator[list[SocketInfo]]:
    """Yield the sockets of each network namespace that a process is in and that we may enter.

    Our own is the first. A transport of which the kernel does not tell has no sockets here.
    """
    for process in processes_of_namespaces():
        found: list[SocketInfo] = []
        with suppress(OSError):  # it has ended, or is not ours to enter
            with inside(process, _connect) as connection:
                for transport in transports:
                    with suppress(FileNotFoundError):  # the kernel has no module for it
                        found += _dump(connection, transport, states, drops=False)
            yield found


def sockets(
    transport: str, *, states: int = _ALL_STATES, drops: bool = False
) -> Iterator[SocketInfo]:
    """Yield the sockets of a transport in our own network namespace.

    `states` is a set of bits, `1 << TcpState.LISTEN` for listeners only. Raises OSError if the
    kernel cannot tell: ENOENT means that it has no module for the transport (tcp_diag, udp_diag,
    unix_diag).
    """
    with _connect() as connection:
        yield from _dump(connection, transport, states, drops=drops)


def _connect() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)


def _dump(
    connection: socket.socket, transport: str, states: int, *, drops: bool
) -> Iterator[SocketInfo]:
    if transport == "unix":
        request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, states, 0, _UNIX_SHOW)
        yield from _answers(connection, request, _unix)
        return
    wanted = 1 << (_SKMEMINFO - 1) if drops else 0
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _INET_REQUEST.pack(family, _PROTOCOLS[transport], wanted, states)
        yield from _answers(connection, request, lambda *at: _inet(transport, *at))


def _answers(
    connection: socket.socket, request: bytes, read: Callable[[bytes, int, int], SocketInfo]
) -> Iterator[SocketInfo]:
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    connection.send(header + request)
    while True:
        data = connection.recv(_BUFFER_BYTES)
        start = 0
        while start < len(data):
            length, kind, *_ = _HEADER.unpack_from(data, start)
            body = start + _HEADER.size
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                errno = -struct.unpack_from("=i", data, body)[0]
                raise OSError(errno, os.strerror(errno))
            yield read(data, body, start + length)
            start += length + 3 & ~3


def _inet(transport: str, data: bytes, start: int, end: int) -> SocketInfo:
    family, state, local_port, peer_port, local, peer, _, received, sent, _, inode = (
        _INET_ANSWER.unpack_from(data, start)
    )
    drops = 0
    if end > start + _INET_ANSWER.size:
        for kind, at, _ in _attributes(data, start + _INET_ANSWER.size, end):
            if kind == _SKMEMINFO:
                (drops,) = _DROPS.unpack_from(data, at)
    return SocketInfo(
        inode,
        transport,
        state,
        (_address(family, local), int.from_bytes(local_port, "big")),
        (_address(family, peer), int.from_bytes(peer_port, "big")),
        received,
        sent,
        drops,
    )


def _address(family: int, raw: bytes) -> bytes:
    """Four bytes or sixteen; an IPv4 address in an IPv6 one is the IPv4 address."""
    if family == socket.AF_INET:
        return raw[:4]
    return raw[12:] if raw.startswith(_V4_MAPPED) else raw


def _unix(data: bytes, start: int, end: int) -> SocketInfo:
    _, _, state, inode = _UNIX_ANSWER.unpack_from(data, start)
    name, peer, queues = b"", 0, (0, 0)
    for kind, at, stop in _attributes(data, start + _UNIX_ANSWER.size, end):
        if kind == _UNIX_NAME:
            name = data[at:stop]
        elif kind == _UNIX_PEER:
            (peer,) = _NUMBER.unpack_from(data, at)
        elif kind == _UNIX_QUEUES:
            queues = _QUEUES.unpack_from(data, at)
    return SocketInfo(inode, "unix", state, (name, 0), (b"", 0), *queues, peer_inode=peer)


def _attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the type, the start and the end of each attribute."""
    while start + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        yield kind, start + _ATTRIBUTE.size, start + length
        start += length + 3 & ~3
