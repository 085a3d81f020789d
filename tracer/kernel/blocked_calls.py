# SPDX-License-Identifier: MIT
"""Calls that wait in the kernel now: which process, which peer, for what. From /proc and sock_diag.

No BPF program is needed. A call that began before anything looked is seen too.
"""

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tracer.kernel.blocked_threads import BlockedThread, blocked_threads, thread_name
from tracer.kernel.last_runs import LastRuns
from tracer.kernel.sock_diag import SocketInfo, sockets_of_namespaces
from tracer.model.blocked_call import BlockedCall, End
from tracer.model.connections import TcpState

__all__ = ["blocked_calls"]

_LOCKS = ("__lock_sock", "lock_sock_nested")
_ROOM = "room to send, because the peer does not read"
_DATA = "data from the peer"
_WAITS_FOR = {
    "accept": "a connection",
    "close": "its data to be sent (SO_LINGER)",
    "connect": "the peer's answer",
    "recv": _DATA,
    "recvmsg": _DATA,
    "select": "events",
    "send": _ROOM,
    "sendmsg": _ROOM,
}
_POLLFD = struct.Struct("=ih")  # struct pollfd: fd, events
_POLLIN, _POLLOUT = 0x001, 0x004


class _Wait(NamedTuple):
    """A blocked thread; `descriptor` and `inode` of the single socket that it waits on, or None."""

    thread: BlockedThread
    seconds: float | None
    descriptor: int | None
    inode: int | None
    waits_for: str


class _Sockets(NamedTuple):
    """Sockets by inode, their peers on this machine, and the process that has each of the peers."""

    by_inode: dict[int, SocketInfo]
    peers: dict[int, SocketInfo]
    owners: dict[int, tuple[int, str]]


def blocked_calls(pids: tuple[int, ...] = (), *, older_seconds: float = 0.0) -> list[BlockedCall]:
    """Return the calls that have waited for `older_seconds`, the longest wait first.

    `pids` are processes (default: all). An unknown wait counts as long enough. Calls of files that
    are no sockets are left out.
    """
    runs = LastRuns()
    waits = [
        wait for wait in _waits(pids, runs) if wait.seconds is None or wait.seconds >= older_seconds
    ]
    known = _sockets({wait.inode for wait in waits if wait.inode is not None})
    calls = []
    for wait in waits:
        with suppress(OSError):  # the thread has ended
            calls.append(_call(wait, known))
    return sorted(calls, key=lambda call: -(call.seconds or 0.0))


def _waits(pids: tuple[int, ...], runs: LastRuns) -> Iterator[_Wait]:
    for thread in blocked_threads(pids):
        with suppress(OSError):  # the thread has ended
            seconds = runs.seconds_ago(thread.task)
            descriptor, waits_for = thread.descriptor, _WAITS_FOR.get(thread.operation.name, "")
            if thread.call.name in ("poll", "ppoll"):
                descriptor, waits_for = _polled(thread)
            inode = None if descriptor is None else _socket_inode(thread.task, descriptor)
            if inode is None and thread.descriptor is not None:
                continue  # read(2) of a file, say
            yield _Wait(thread, seconds, descriptor if inode else None, inode, waits_for)


def _polled(thread: BlockedThread) -> tuple[int | None, str]:
    """The only descriptor of a poll(2), and what the call waits for.

    Many libraries wait for a peer with such a poll, to have a timeout. A poll of several
    descriptors is that of an event loop.
    """
    address, number, *_ = thread.arguments
    if number == 1:
        with suppress(OSError), (thread.task / "mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            descriptor, events = _POLLFD.unpack(memory.read(_POLLFD.size))
            if events & _POLLIN:
                return descriptor, _DATA
            if events & _POLLOUT:
                return descriptor, "room to send, or the peer's answer"
    return None, _WAITS_FOR["select"]


def _socket_inode(task: Path, descriptor: int) -> int | None:
    kind, _, rest = (task / f"fd/{descriptor}").readlink().name.partition(":")
    return int(rest.strip("[]")) if kind == "socket" else None


def _sockets(inodes: set[int]) -> _Sockets:
    """Find the sockets with these inodes, and who is at the other end."""
    by_inode: dict[int, SocketInfo] = {}
    peers: dict[int, SocketInfo] = {}
    if not inodes:
        return _Sockets(by_inode, peers, {})
    namespaces = list(sockets_of_namespaces())
    everywhere = [info for namespace in namespaces for info in namespace]
    for namespace in namespaces:
        ours = {info.inode: info for info in namespace if info.inode in inodes}
        if ours:
            by_inode |= ours
            # The peer may be in another namespace, and an address of 127.0.0.0/8 in each of them.
            peers |= _peers(ours.values(), everywhere) | _peers(ours.values(), namespace)
    return _Sockets(by_inode, peers, _owners({peer.inode for peer in peers.values()}))


def _peers(ours: Iterable[SocketInfo], candidates: list[SocketInfo]) -> dict[int, SocketInfo]:
    """The other end of each; for one that is not connected yet, the listener that it waits for."""
    by_ends = {(info.local, info.peer): info for info in candidates if info.peer[1]}
    by_inode = {info.inode: info for info in candidates if info.transport == "unix"}
    listeners = {info.local: info for info in candidates if info.state == TcpState.LISTEN}
    found = {}
    for info in ours:
        address, port = info.peer
        peer = (
            by_inode.get(info.peer_inode)
            or by_ends.get((info.peer, info.local))
            or listeners.get(info.peer)
            or listeners.get((bytes(len(address)), port))
            or listeners.get((bytes(16), port))
        )
        if peer is not None:
            found[info.inode] = peer
    return found


def _owners(inodes: set[int]) -> dict[int, tuple[int, str]]:
    """The number and the name of a process that has each socket open."""
    owners: dict[int, tuple[int, str]] = {}
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    if not wanted:
        return owners
    for process in Path("/proc").glob("[1-9]*"):
        with suppress(OSError):  # it has ended, or is not ours to look at
            for file in (process / "fd").iterdir():
                with suppress(OSError):  # closed meanwhile
                    if (inode := wanted.get(str(file.readlink()))) is not None:
                        owners[inode] = int(process.name), thread_name(process)
    return owners


def _call(wait: _Wait, known: _Sockets) -> BlockedCall:
    thread = wait.thread
    process = Path("/proc", str(thread.pid))
    info = known.by_inode.get(wait.inode or 0)
    peer = known.peers.get(wait.inode or 0)
    call = BlockedCall(
        pid=thread.pid,
        tid=thread.tid,
        process=thread_name(process),
        thread=thread_name(thread.task),
        operation=thread.operation.name,
        descriptor=wait.descriptor,
        seconds=wait.seconds,
        transport=info.transport if info else None,
        state=info.state_name if info else None,
        local=_end(info, info.local_text if info else "", {}),
        peer=_end(peer, _peer_text(info, peer), known.owners),
        waits_for=wait.waits_for,
        stack=(),
    )
    if call.waits_for_work:
        return call
    stack = _stack(thread.task)
    if any(function.startswith(_LOCKS) for function in stack):
        call = replace(call, waits_for="the socket's lock, which another thread has")
    elif peer is not None and _is_full_listener(peer):
        call = replace(call, waits_for="a place in the accept queue, which is full")
    return replace(call, stack=stack)


def _is_full_listener(info: SocketInfo) -> bool:
    return info.state == TcpState.LISTEN and info.receive_queue > info.send_queue


def _peer_text(info: SocketInfo | None, peer: SocketInfo | None) -> str:
    if info is not None and info.transport != "unix":
        return info.peer_text
    return peer.local_text if peer else ""


def _end(info: SocketInfo | None, address: str, owners: dict[int, tuple[int, str]]) -> End:
    if info is None:
        return End(address)
    pid, process = owners.get(info.inode, (None, None))
    return End(address, pid, process, info.receive_queue, info.send_queue)


def _stack(task: Path) -> tuple[str, ...]:
    """The functions that the thread is in, the innermost first; () without the right to know."""
    try:
        lines = (task / "stack").read_text().splitlines()
    except PermissionError:
        return ()
    return tuple(line.split()[-1].partition("+")[0] for line in lines)
