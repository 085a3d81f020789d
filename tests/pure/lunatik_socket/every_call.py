# SPDX-License-Identifier: MIT
"""Makes each documented call once, in every form, between marks that strace shows.

A mark is access(2) on a path that does not exist. `test_system_calls.py` runs this file under
strace, reads the system calls between the marks, and compares them with the tables of this file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from lunatik_socket import Data, Socket, new, poll

MARK = "/every-call/"

# The system calls of each operation, in order. The getsockname of accept is made by CPython's
# socket class (EXTRA_SYSTEM_CALLS). poll adds one epoll_ctl for each member, here two.
SYSTEM_CALLS = {
    "new": ["socket"],
    "bind": ["bind"],
    "listen": ["listen"],
    "accept": ["accept4", "getsockname"],
    "connect": ["connect"],
    "send": ["sendto"],
    "recv": ["recvfrom"],
    "sendmsg": ["sendmsg"],
    "recvmsg": ["recvmsg"],
    "close": ["close"],
    "getsockname": ["getsockname"],
    "getpeername": ["getpeername"],
    "getsockopt": ["getsockopt"],
    "setsockopt": ["setsockopt"],
    "poll": ["epoll_create1", "epoll_ctl", "epoll_ctl"],
    "select": ["epoll_wait"],
}
ADDITIONS = {
    "shutdown": ["shutdown"],
    "add": ["epoll_ctl"],
    "modify": ["epoll_ctl"],
    "remove": ["epoll_ctl"],
    "remove a closed one": [],
    "wait": ["epoll_wait"],
    "accept without waiting, blocking": ["ioctl", "accept4", "ioctl", "getsockname"],
    "failed accept without waiting, blocking": ["ioctl", "accept4", "ioctl"],
    "connect without waiting, blocking": ["ioctl", "connect", "ioctl"],
    "accept without waiting": ["accept4", "getsockname"],
    "failed accept without waiting": ["accept4"],
    "connect without waiting": ["connect"],
    "close twice": [],
    "collect": ["close"],
    "refuse": [],
}


def step(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    os.access(MARK + name, os.F_OK)
    try:
        return call(*arguments)
    except OSError:
        return None
    finally:
        os.access(MARK, os.F_OK)


def calls(kind: str, mine: Socket, other: Socket) -> None:
    """The calls on two connected sockets. `other` receives what `mine` sends."""
    buffer, data = bytearray(3), Data(3)
    name = {"name": mine.getpeername()} if kind == "udp" else {}
    for payload in (
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        [1, 2, 3],
        data,
        data.segment(1),
    ):
        for flags in (0, "D", 0x40):
            step("send", mine.send, payload, flags)
            step("recv", other.recv, 3, flags)
            step("sendmsg", mine.sendmsg, {**name, "flags": flags}, payload)
            step("recvmsg", other.recvmsg, {"iov_len": 3}, flags)
    for target in (buffer, memoryview(buffer), data, data.segment(1)):
        for flags in (0, "D", 0x40):
            mine.send(b"a")
            mine.send(b"b")
            step("recv", other.recv, target, flags)
            step("recvmsg", other.recvmsg, {}, target, "D")
    step("recv", other.recv, 3, "DT")
    step("recvmsg", other.recvmsg, {"iov_len": 3}, "DT")
    for call in (mine.getsockname, mine.getpeername):
        step(call.__name__, call)
    for option, value in (("k", 1), ("l", (1, 0)), ("ra", 1)):
        step("setsockopt", mine.setsockopt, "s", option, value)
        step("getsockopt", mine.getsockopt, "s", option)


def waiting(mine: Socket, other: Socket) -> None:
    """The calls of a poll."""
    members = step("poll", poll, [mine, other])
    step("select", members.select, 0)
    step("select", members.select, 1)
    mine.send(b"x")
    step("select", members.select)
    step("wait", members.wait)
    with new("i", "u") as third:
        step("add", members.add, third, "rw")
        step("modify", members.modify, third, "r")
        step("remove", members.remove, third)
        members.add(third)
    step("remove a closed one", members.remove, third)
    members.close()


def refusals(sock: Socket) -> None:
    """Wrong arguments, which are refused before any system call."""
    wrong: list[Callable[[Any], Any]] = [
        lambda s: s.bind("x", 0),
        lambda s: s.connect("127.0.0.1", 0),
        lambda s: s.listen(0),
        lambda s: s.accept("?"),
        lambda s: s.send("text"),
        lambda s: s.send(b""),
        lambda s: s.send([]),
        lambda s: s.sendmsg({}),
        lambda s: s.recv(0),
        lambda s: s.recv(bytearray()),
        lambda s: s.recvmsg({}),
        lambda s: s.getsockopt("s", "?"),
        lambda s: s.setsockopt("s", "r", 1 << 40),
        lambda _: new("x"),
        lambda _: poll([]),
        lambda s: poll([s, s]),
    ]
    for call in wrong:

        def refused(call: Callable[[Any], Any] = call) -> None:
            try:
                call(sock)
            except (TypeError, ValueError):
                return
            raise AssertionError("not refused")

        step("refuse", refused)


def main() -> None:
    listener = step("new", new)
    step("bind", listener.bind, "127.0.0.1", 0)
    step("listen", listener.listen, 4)
    address = listener.getsockname()
    client = step("new", new, "inet", "tcp")
    step("connect", client.connect, *address)
    accepted = step("accept", listener.accept)
    calls("tcp", client, accepted)
    waiting(client, accepted)
    step("shutdown", client.shutdown)
    accepted.recv(99)
    step("recv", accepted.recv, 1)
    step("recvmsg", accepted.recvmsg, {"iov_len": 1})
    step("close", client.close)
    step("close twice", client.close)

    for blocking in (True, False):
        suffix = ", blocking" if blocking else ""
        client = new()
        listener.setblocking(blocking)
        client.setblocking(blocking)
        step("failed accept without waiting" + suffix, listener.accept, "D")
        step("connect without waiting" + suffix, client.connect, *address, "D")
        step("accept without waiting" + suffix, listener.accept, "D")
        client.close()

    one, other = new("i", "u"), step("new", new, "inet", "udp")
    for mine, peer in ((one, None), (other, one)):
        step("bind", mine.bind, "127.0.0.1", 0)
        if peer is not None:
            where = peer.getsockname()
            step("connect", mine.connect, *where)
            peer.connect(*mine.getsockname())
    calls("udp", one, other)
    waiting(one, other)
    refusals(one)
    kept = [accepted]
    accepted = None
    step("collect", kept.clear)


if __name__ == "__main__":
    main()
