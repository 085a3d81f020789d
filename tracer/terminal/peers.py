# SPDX-License-Identifier: MIT
"""Who talks to whom, as rows that the live table, the plain lines and the summary all show."""

from collections.abc import Iterator
from dataclasses import dataclass

from tracer.model.aggregate import Aggregate, merge
from tracer.model.connections import NO_CALLS, Connections, Peer, connections_since
from tracer.model.snapshot import Snapshot

__all__ = ["PeerRow", "address_of", "connect_durations", "peer_rows"]


@dataclass(frozen=True, slots=True)
class PeerRow:
    """One peer of one process. `recent` was counted in the last interval, `total` since the start.

    `recent` is None if nothing was.
    """

    total: Peer
    recent: Peer | None

    @property
    def turns(self) -> int:
        """How much was done in the last interval: connects and answers."""
        return 0 if self.recent is None else _turns(self.recent)

    def trouble(self) -> Iterator[tuple[int, str]]:
        """What went wrong since the start: how often, and what; the most frequent failure first."""
        failed = self.total.failed_connects
        for result in sorted(failed, key=lambda result: (-failed[result], result)):
            yield failed[result], result
        if self.total.retransmits:
            yield self.total.retransmits, "resent"
        # A refused connect receives a reset; that is no second failure.
        resets = self.total.resets_sent + self.total.resets_received
        if (rest := resets - failed.get("ECONNREFUSED", 0)) > 0:
            yield rest, "reset"


def peer_rows(old: Connections | None, new: Snapshot) -> list[PeerRow]:
    """Every peer of `new`, the busiest since `old` first; empty without the connection layer."""
    if new.connections is None:
        return []
    since = new.connections if old is None else connections_since(old, new.connections)
    recent = {peer.key: peer for peer in since.peers}
    rows = [PeerRow(peer, recent.get(peer.key)) for peer in new.connections.peers]
    return sorted(rows, key=lambda row: (-row.turns, -_turns(row.total), -row.total.open))


def connect_durations(peer: Peer) -> Aggregate:
    """All connects of the peer, whatever their result."""
    return merge(list(peer.connects.values())) if peer.connects else NO_CALLS


def address_of(peer: Peer) -> str:
    """The peer as it is written: `192.0.2.1:443`, for a server `192.0.2.7 on :80`."""
    host = f"[{peer.peer}]" if ":" in peer.peer and peer.role == "client" else peer.peer
    return f"{host}:{peer.port}" if peer.role == "client" else f"{host} on :{peer.port}"


def _turns(peer: Peer) -> int:
    return connect_durations(peer).count + peer.answers.count + peer.accept_waits.count
