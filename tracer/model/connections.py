# SPDX-License-Identifier: MIT
"""What the connection layer measured up to one moment, as frozen dataclasses.

docs/connections.md says what is measured. The enumerations here become C enums of the same names
(`enumeration` in tracer/loading/source.py).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import IntEnum
from typing import Any

from tracer.model.aggregate import Aggregate, durations_to_json, merge, minus
from tracer.model.errnos import ERRNO_NAMES, KERNEL_FIRST_SLOT

__all__ = [
    "ABORTED",
    "DURATIONS",
    "NO_CALLS",
    "OK",
    "OTHER",
    "ROLES",
    "TURNS",
    "Connection",
    "Connections",
    "Listener",
    "Peer",
    "TcpState",
    "connections_since",
    "connections_to_json",
    "result_name",
]

ROLES = ("unknown", "client", "server", "listener")
"""A client connected, a server was accepted. Of UDP sockets, a client is one that sent first."""

DURATIONS = ("none", "connect", "answer", "accept", "life")
"""The kinds of durations by peer."""

TURNS = ("none", "sent", "received")
"""What a socket did last."""

OTHER = "other"
"""Process and peer of the row for all peers that found no room."""

OK = "ok"
"""The result of a connect that succeeded."""

ABORTED = 4096
"""The result of a connect that the program gave up by closing the socket; above every errno."""


class TcpState(IntEnum):
    """The kernel's include/net/tcp_states.h; its names are those that ss(8) shows."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


NO_CALLS = merge([])
"""The aggregate of nothing."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A socket that is open now.

    `inode` is the number that ss(8) shows, `pid`, `tid` and `comm` the process that used it last.
    `local` and `peer` are IP addresses; `peer` is empty for a socket without a peer. Times are on
    CLOCK_MONOTONIC in ns: `born_ns` is when it was established or first used, 0 if before the
    trace; `last_send_ns` and `last_receive_ns` are 0 if it has not. `retransmits` is a number of
    segments.
    """

    inode: int
    pid: int
    tid: int
    comm: str
    role: str
    transport: str
    state: str
    local: str
    local_port: int
    peer: str
    peer_port: int
    born_ns: int
    last_send_ns: int
    last_receive_ns: int
    sent_bytes: int
    received_bytes: int
    sends: int
    receives: int
    retransmits: int
    resets_sent: int
    resets_received: int

    @property
    def is_open(self) -> bool:
        """Whether it is connected, and its process has not closed it."""
        return self.state in ("ESTABLISHED", "CLOSE_WAIT") and self.role in ("client", "server")


@dataclass(frozen=True, slots=True)
class Peer:
    """All connections of one process to one peer.

    `comm` is the process's name; `pid` is None unless the numbers are split by process. `port` is
    the service's: the peer's for a client, the local one for a server. `open` is the number of
    connections now, `connections` of those established since the trace began. `connects` are
    durations by result, `answers`, `accept_waits` and `lives` durations.
    """

    comm: str
    pid: int | None
    role: str
    transport: str
    peer: str
    port: int
    open: int = 0
    connections: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    retransmits: int = 0
    resets_sent: int = 0
    resets_received: int = 0
    connects: Mapping[str, Aggregate] = field(default_factory=dict)
    answers: Aggregate = NO_CALLS
    accept_waits: Aggregate = NO_CALLS
    lives: Aggregate = NO_CALLS

    @property
    def key(self) -> tuple[str, int | None, str, str, str, int]:
        """What tells it from all other peers."""
        return self.comm, self.pid, self.role, self.transport, self.peer, self.port

    @property
    def failed_connects(self) -> dict[str, int]:
        """The number of connects that failed, by result."""
        return {result: one.count for result, one in self.connects.items() if result != OK}


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening TCP socket, and its accept queue as of now.

    `queue` connections wait in it, of at most `limit`; `drops` connections were dropped since it
    listens, mostly because it was full.
    """

    inode: int
    pid: int
    comm: str
    address: str
    port: int
    queue: int
    limit: int
    drops: int


@dataclass(frozen=True, slots=True)
class Connections:
    """All that the connection layer knows at one moment.

    `other_peer` is the number of times that a socket was counted in the rows with `OTHER` as
    process and peer, because there was no room for its peer.
    """

    peers: tuple[Peer, ...]
    connections: tuple[Connection, ...]
    other_peer: int = 0
    listeners: tuple[Listener, ...] = ()


def result_name(number: int) -> str:
    """The result of a connect by its number in the kernel side."""
    if number == ABORTED:
        return "aborted"
    if not number:
        return OK
    return ERRNO_NAMES[number] if number < KERNEL_FIRST_SLOT else str(number)


_COUNTS = (
    "connections",
    "sent_bytes",
    "received_bytes",
    "retransmits",
    "resets_sent",
    "resets_received",
)
_DURATIONS = ("answers", "accept_waits", "lives")


def connections_since(old: Connections, new: Connections) -> Connections:
    """What was counted between two moments of one session; `open` and `connections` as of `new`.

    Peers without any change are left out.
    """
    before = {peer.key: peer for peer in old.peers}
    since = (_peer_since(before.get(peer.key), peer) for peer in new.peers)
    return replace(
        new, peers=tuple(peer for peer in since if peer != Peer(*peer.key, open=peer.open))
    )


def _peer_since(old: Peer | None, new: Peer) -> Peer:
    if old is None:
        return new
    connects = {name: minus(one, old.connects.get(name)) for name, one in new.connects.items()}
    changes: dict[str, Any] = {
        **{name: getattr(new, name) - getattr(old, name) for name in _COUNTS},
        **{name: minus(getattr(new, name), getattr(old, name)) for name in _DURATIONS},
        "connects": {name: one for name, one in connects.items() if one.count},
    }
    return replace(new, **changes)


def connections_to_json(connections: Connections, now_ns: int) -> dict[str, Any]:
    """The parts `peers`, `connections` and `listeners` of the JSON document (docs/json.md).

    `now_ns` is the time of the snapshot on CLOCK_MONOTONIC, to make ages of times.
    """
    return {
        "peers": [_peer_to_json(peer) for peer in connections.peers],
        "connections": [_connection_to_json(one, now_ns) for one in connections.connections],
        "listeners": [asdict(one) for one in connections.listeners],
    }


def _peer_to_json(peer: Peer) -> dict[str, Any]:
    names = [one.name for one in fields(peer) if one.name not in ("connects", *_DURATIONS)]
    return {
        **{name: getattr(peer, name) for name in names},
        "connects": [
            {"result": result, "count": one.count, **durations_to_json(one)}
            for result, one in peer.connects.items()
        ],
        **{
            name: {"count": one.count, **durations_to_json(one)}
            for name, one in ((name, getattr(peer, name)) for name in _DURATIONS)
        },
    }


def _connection_to_json(one: Connection, now_ns: int) -> dict[str, Any]:
    times = {
        "age_seconds": one.born_ns,
        "last_send_seconds": one.last_send_ns,
        "last_receive_seconds": one.last_receive_ns,
    }
    plain = {name: value for name, value in asdict(one).items() if not name.endswith("_ns")}
    return plain | {
        name: max(0, now_ns - time_ns) / 1e9 if time_ns else None for name, time_ns in times.items()
    }
