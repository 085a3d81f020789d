# SPDX-License-Identifier: MIT
"""Makes the metrics of the connection layer from a Snapshot; all empty without the layer."""

from collections.abc import Callable, Iterator, Mapping

from tracer.exporter import metrics
from tracer.exporter.metrics import Labels, Metric
from tracer.model.aggregate import Aggregate
from tracer.model.connections import Peer
from tracer.model.snapshot import Snapshot

__all__ = ["CONNECTION_FAMILIES"]

_Samples = dict[Labels, int | Aggregate]


def _peers(snapshot: Snapshot) -> Iterator[tuple[Labels, Peer]]:
    """Every peer with the labels that all metrics of peers have."""
    if snapshot.connections is None:
        return
    for peer in snapshot.connections.peers:
        pid = "" if peer.pid is None else str(peer.pid)
        yield (peer.comm, pid, peer.peer, str(peer.port)), peer


def _connects(snapshot: Snapshot) -> _Samples:
    return {
        (*labels, result): connects
        for labels, peer in _peers(snapshot)
        for result, connects in peer.connects.items()
        if peer.role == "client"
    }


def _answers(snapshot: Snapshot) -> _Samples:
    return {
        (*labels, peer.role, peer.transport): peer.answers
        for labels, peer in _peers(snapshot)
        if peer.answers.count
    }


def _accept_waits(snapshot: Snapshot) -> _Samples:
    return {
        labels: peer.accept_waits for labels, peer in _peers(snapshot) if peer.accept_waits.count
    }


def _lives(snapshot: Snapshot) -> _Samples:
    return {
        (*labels, peer.role): peer.lives for labels, peer in _peers(snapshot) if peer.lives.count
    }


def _open(snapshot: Snapshot) -> _Samples:
    return {
        (*labels, peer.role): peer.open
        for labels, peer in _peers(snapshot)
        if peer.transport == "tcp"
    }


def _retransmits(snapshot: Snapshot) -> _Samples:
    return {
        (*labels, peer.role): peer.retransmits
        for labels, peer in _peers(snapshot)
        if peer.transport == "tcp"
    }


def _resets(snapshot: Snapshot) -> _Samples:
    return {
        (*labels, peer.role, direction): number
        for labels, peer in _peers(snapshot)
        if peer.transport == "tcp"
        for direction, number in (("sent", peer.resets_sent), ("received", peer.resets_received))
    }


def _listeners(snapshot: Snapshot, field: str) -> _Samples:
    """Added up over listeners with the same labels: several may share a port (SO_REUSEPORT)."""
    found: dict[Labels, int] = {}
    for one in snapshot.connections.listeners if snapshot.connections else ():
        labels = (one.comm, one.address, str(one.port))
        found[labels] = found.get(labels, 0) + int(getattr(one, field))
    return {**found}


def _other_peer(snapshot: Snapshot) -> _Samples:
    return {} if snapshot.connections is None else {(): snapshot.connections.other_peer}


CONNECTION_FAMILIES: Mapping[Metric, Callable[[Snapshot], _Samples]] = {
    metrics.CONNECT_DURATION: _connects,
    metrics.ANSWER_DURATION: _answers,
    metrics.ACCEPT_WAIT: _accept_waits,
    metrics.CONNECTION_DURATION: _lives,
    metrics.CONNECTIONS_OPEN: _open,
    metrics.RETRANSMITS: _retransmits,
    metrics.RESETS: _resets,
    metrics.ACCEPT_QUEUE: lambda snapshot: _listeners(snapshot, "queue"),
    metrics.ACCEPT_QUEUE_LIMIT: lambda snapshot: _listeners(snapshot, "limit"),
    metrics.ACCEPT_DROPS: lambda snapshot: _listeners(snapshot, "drops"),
    metrics.OTHER_PEER: _other_peer,
}
"""The function that makes each metric of the connection layer."""
