# SPDX-License-Identifier: MIT
"""Read the maps of the connection layer into `Connections`.

What the values in the maps mean is described in bpf/sockets.h and bpf/peers.h.
"""

import contextlib
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tracer.kernel.maps import Map, sum_of_cpus
from tracer.kernel.sock_diag import sockets
from tracer.model.aggregate import Aggregate, merge
from tracer.model.connections import (
    DURATIONS,
    NO_CALLS,
    OTHER,
    ROLES,
    Connection,
    Connections,
    Listener,
    Peer,
    TcpState,
    result_name,
)
from tracer.model.layout import Layout
from tracer.model.operations import TRANSPORTS
from tracer.model.snapshot import MapUse

__all__ = ["ConnectionReader"]

_OTHER_PEER = 1  # OTHER_PEER of bpf/peers.h
_SLOTS_FOR_ALL = 8  # reading one slot alone takes as long as reading about eight with all others
_UNCONNECTED = "UNCONN"  # as ss(8) shows it

_PeerKey = tuple[str, int | None, str, str, str, int]


@dataclass(slots=True)
class _Durations:
    """The durations of one peer, by kind and result."""

    found: dict[tuple[str, int], list[Aggregate]]

    def of(self, kind: str) -> Aggregate:
        """All durations of this kind."""
        parts = [
            one for (name, _), all_of_it in self.found.items() if name == kind for one in all_of_it
        ]
        return merge(parts) if parts else NO_CALLS

    def connects(self) -> dict[str, Aggregate]:
        """Durations of connects by result."""
        return {
            result_name(result): merge(parts)
            for (kind, result), parts in sorted(self.found.items())
            if kind == "connect"
        }


class ConnectionReader:
    """Reads the maps of one session; `by_pid` if the peers are split by process."""

    def __init__(self, maps: Mapping[str, Map], *, by_pid: bool) -> None:
        self._maps, self._by_pid = maps, by_pid
        self._entries: dict[str, int] = {}

    def read(self, other_peer: int) -> Connections:
        """All numbers as of now.

        `other_peer` is the number of that event. Peers are read before sockets: a socket that ends
        in between is missing from this snapshot's bytes, but never in them twice.
        """
        durations = self._durations()
        rows = [*self._peers(durations), *self._other_peers(durations)]
        sockets = tuple(self._connections())
        return Connections(
            tuple(_with_sockets(rows, sockets, self._key_of)),
            sockets,
            other_peer,
            tuple(_listeners([one for one in sockets if one.role == "listener"])),
        )

    def map_use(self) -> Iterator[MapUse]:
        """Entries of the maps that can be full, as of the last `read`."""
        self._entries["accept_queue"] = sum(1 for _ in self._maps["accept_queue"].items())
        for name in ("more_sockets", "accept_queue", "peers", "durations"):
            yield MapUse(name, self._entries[name], self._maps[name].capacity)

    def _items(self, name: str) -> Iterator[tuple[bytes, memoryview]]:
        """The entries of a hash; notes their number."""
        self._entries[name] = 0
        for item in self._maps[name].items():
            self._entries[name] += 1
            yield item

    def _durations(self) -> dict[tuple[int, str, str], _Durations]:
        """The durations of each peer by its id, and for the other peers also role and transport."""
        source = self._maps["durations"]
        key, value = source.layout.key, source.layout.value
        sum_ns, slots = value["sum_ns"].words.start, value["slots"].words
        of_cpus: dict[tuple[int, int, int, int, int], list[bytes]] = {}
        for raw, one in self._items("durations"):
            fields = ("peer_id", "role", "transport", "kind", "result")
            peer_id, role, transport, kind, result = (key.number(name, raw) for name in fields)
            of_cpus.setdefault((peer_id, role, transport, kind, result), []).append(bytes(one))
        found: dict[tuple[int, str, str], _Durations] = {}
        for (peer_id, role, transport, kind, result), parts in of_cpus.items():
            cell = sum_of_cpus(memoryview(b"".join(parts)), source.field_size)
            counts = tuple(cell[slots])
            durations = found.setdefault(
                (peer_id, ROLES[role], TRANSPORTS[transport]), _Durations({})
            )
            durations.found.setdefault((DURATIONS[kind], result), []).append(
                Aggregate(sum(counts), cell[sum_ns], 0, {}, counts)
            )
        return found

    def _peers(self, durations: Mapping[tuple[int, str, str], _Durations]) -> Iterator[Peer]:
        source = self._maps["peers"]
        key, value = source.layout.key, source.layout.value
        for raw, one in self._items("peers"):
            role = ROLES[key.number("role", raw)]
            transport = TRANSPORTS[key.number("transport", raw)]
            row = Peer(
                _text(raw[key["comm"].bytes]),
                key.number("tgid", raw) if self._by_pid else None,
                role,
                transport,
                _address(raw[key["remote"].bytes]),
                key.number("port", raw),
            )
            mine = durations.get((value.number("id", one), role, transport), _Durations({}))
            yield _filled(row, value, one, mine)

    def _other_peers(self, durations: Mapping[tuple[int, str, str], _Durations]) -> Iterator[Peer]:
        """The rows of all peers that found no room, by role and transport."""
        source = self._maps["other_peers"]
        for index, (_, one) in enumerate(source.items()):
            role, transport = divmod(index, len(TRANSPORTS))
            found = durations.get((_OTHER_PEER, ROLES[role], TRANSPORTS[transport]))
            if found or any(one):
                row = Peer(OTHER, None, ROLES[role], TRANSPORTS[transport], OTHER, 0)
                yield _filled(row, source.layout.value, one, found or _Durations({}))

    def _connections(self) -> Iterator[Connection]:
        """The sockets in all tables; without those of UDP whose process has ended."""
        layout = self._maps["sockets"].layout.value
        for raw in self._slots_in_use():
            yield _connection(layout, raw)
        for _, value in self._items("more_sockets"):
            yield _connection(layout, value)
        for _, value in self._maps["datagram_sockets"].items():
            one = _connection(layout, value)
            if one.role != "unknown" and Path(f"/proc/{one.pid}").exists():
                yield one

    def _slots_in_use(self) -> Iterator[memoryview]:
        """The entries of the array: each by itself while they are few, else all slots at once.

        Of all slots, the addresses are cut out of the bytes in one step.
        """
        source = self._maps["sockets"]
        taken = [slot for slot, _ in self._maps["slots_taken"].items()]
        layout = source.layout.value
        start, words = layout["sk"].words.start, layout.size // 8
        few = len(taken) < source.capacity // _SLOTS_FOR_ALL
        for values in map(source.lookup, taken) if few else source.values():
            for i, address in enumerate(values.cast("Q")[start::words].tolist()):
                if address:
                    yield values[i * layout.size : (i + 1) * layout.size]

    def _key_of(self, one: Connection) -> _PeerKey:
        port = one.peer_port if one.role == "client" else one.local_port
        pid = one.pid if self._by_pid else None
        return one.comm, pid, one.role, one.transport, one.peer, port


def _listeners(known: list[Connection]) -> Iterator[Listener]:
    """The listeners with their accept queues; those of other network namespaces are left out."""
    if not known:
        return
    with contextlib.suppress(OSError):  # a kernel without inet_diag
        queues = {one.inode: one for one in sockets("tcp", states=1 << TcpState.LISTEN, drops=True)}
        for one in known:
            if found := queues.get(one.inode):
                yield Listener(
                    one.inode,
                    one.pid,
                    one.comm,
                    one.local,
                    one.local_port,
                    found.receive_queue,
                    found.send_queue,
                    found.drops,
                )


def _with_sockets(
    rows: list[Peer], sockets: tuple[Connection, ...], key_of: Callable[[Connection], _PeerKey]
) -> Iterator[Peer]:
    """The peers with the open connections and with the bytes of the sockets that still exist."""
    rows_by_key = {row.key: row for row in rows}
    is_open: Counter[_PeerKey] = Counter()
    sent: Counter[_PeerKey] = Counter()
    received: Counter[_PeerKey] = Counter()
    for one in sockets:
        if one.role not in ("client", "server"):
            continue
        key = key_of(one)
        if key not in rows_by_key:
            key = (OTHER, None, one.role, one.transport, OTHER, 0)
        is_open[key] += one.is_open
        sent[key] += one.sent_bytes
        received[key] += one.received_bytes
    for row in rows:
        yield replace(
            row,
            open=is_open[row.key],
            sent_bytes=row.sent_bytes + sent[row.key],
            received_bytes=row.received_bytes + received[row.key],
        )


def _filled(row: Peer, layout: Layout, raw: memoryview, durations: _Durations) -> Peer:
    def number(name: str) -> int:
        return layout.number(name, raw)

    return replace(
        row,
        connections=number("connections"),
        sent_bytes=number("sent_bytes"),
        received_bytes=number("received_bytes"),
        retransmits=number("retransmits"),
        resets_sent=number("resets_sent"),
        resets_received=number("resets_received"),
        connects=durations.connects(),
        answers=durations.of("answer"),
        accept_waits=durations.of("accept"),
        lives=durations.of("life"),
    )


def _connection(layout: Layout, raw: memoryview) -> Connection:
    def number(name: str) -> int:
        return layout.number(name, raw)

    remote = _address(raw[layout["remote"].bytes])
    transport = TRANSPORTS[number("transport")]
    return Connection(
        inode=number("inode"),
        pid=number("tgid"),
        tid=number("tid"),
        comm=_text(raw[layout["comm"].bytes]),
        role=ROLES[number("role")],
        transport=transport,
        state=TcpState(number("state")).name if transport == "tcp" else _UNCONNECTED,
        local=_address(raw[layout["local"].bytes]),
        local_port=number("local_port"),
        peer=remote,
        peer_port=number("remote_port"),
        **{
            name: number(name)
            for name in (
                "born_ns",
                "last_send_ns",
                "last_receive_ns",
                "sent_bytes",
                "received_bytes",
                "sends",
                "receives",
                "retransmits",
                "resets_sent",
                "resets_received",
            )
        },
    )


def _text(raw: bytes | memoryview) -> str:
    return bytes(raw).split(b"\0")[0].decode(errors="backslashreplace")


def _address(raw: bytes | memoryview) -> str:
    """The address as text; that of IPv4 if it is a mapped one."""
    found = ipaddress.IPv6Address(bytes(raw))
    return str(found.ipv4_mapped or found)
