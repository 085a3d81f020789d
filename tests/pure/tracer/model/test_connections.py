# SPDX-License-Identifier: MIT
"""The connection layer's numbers between two moments, and as JSON."""

import json
from dataclasses import replace

import pytest

from tests.pure.tracer.snapshots import aggregate, snapshot
from tracer.model.connections import (
    ABORTED,
    Connection,
    Connections,
    Peer,
    connections_since,
    result_name,
)
from tracer.model.snapshot import to_json

PEER = Peer("curl", None, "client", "tcp", "192.0.2.1", 443)
OLD = replace(
    PEER,
    open=3,
    connections=5,
    sent_bytes=100,
    connects={"ok": aggregate({100: 5}, 50), "ETIMEDOUT": aggregate({200: 1}, 9)},
    answers=aggregate({150: 7}, 70),
)
NEW = replace(
    OLD,
    open=2,
    connections=7,
    sent_bytes=130,
    connects={"ok": aggregate({100: 5, 101: 2}, 80), "ETIMEDOUT": aggregate({200: 1}, 9)},
    answers=aggregate({150: 8}, 90),
    resets_received=1,
)
SOCKET = Connection(
    inode=7,
    pid=1,
    tid=2,
    comm="curl",
    role="client",
    transport="tcp",
    state="ESTABLISHED",
    local="192.0.2.9",
    local_port=40000,
    peer="192.0.2.1",
    peer_port=443,
    born_ns=0,
    last_send_ns=600_000_000,
    last_receive_ns=0,
    sent_bytes=1,
    received_bytes=2,
    sends=3,
    receives=4,
    retransmits=5,
    resets_sent=6,
    resets_received=7,
)


def test_what_was_counted_since_is_the_difference() -> None:
    [since] = connections_since(Connections((OLD,), ()), Connections((NEW,), ())).peers
    assert since == replace(
        PEER,
        open=2,
        connections=2,
        sent_bytes=30,
        connects={"ok": aggregate({101: 2}, 30)},
        answers=aggregate({150: 1}, 20),
        resets_received=1,
    )


def test_a_peer_without_a_change_is_left_out_and_a_new_one_is_whole() -> None:
    other = replace(OLD, peer="192.0.2.2")
    since = connections_since(Connections((OLD,), ()), Connections((OLD, other), ()))
    assert since.peers == (other,)


@pytest.mark.parametrize(
    ("number", "name"),
    [(0, "ok"), (111, "ECONNREFUSED"), (ABORTED, "aborted"), (4000, "4000")],
)
def test_results_have_names(number: int, name: str) -> None:
    assert result_name(number) == name


@pytest.mark.parametrize(
    ("state", "role", "is_open"),
    [
        ("ESTABLISHED", "client", True),
        ("CLOSE_WAIT", "server", True),
        ("FIN_WAIT2", "client", False),
        ("SYN_SENT", "client", False),
        ("LISTEN", "listener", False),
    ],
)
def test_a_connection_is_open_until_its_process_closes_it(
    state: str, role: str, is_open: bool
) -> None:
    assert replace(SOCKET, state=state, role=role).is_open is is_open


def test_the_json_document_has_peers_and_connections_only_with_the_layer() -> None:
    without = to_json(snapshot())
    assert not {"peers", "connections"} & set(without)
    document = to_json(
        replace(snapshot(monotonic_ns=1_000_000_000), connections=Connections((NEW,), (SOCKET,)))
    )
    json.dumps(document, allow_nan=False)
    [peer] = document["peers"]
    assert [(c["result"], c["count"]) for c in peer["connects"]] == [("ok", 7), ("ETIMEDOUT", 1)]
    assert (peer["peer"], peer["port"], peer["pid"], peer["answers"]["count"]) == (
        "192.0.2.1",
        443,
        None,
        8,
    )
    [one] = document["connections"]
    assert (one["age_seconds"], one["last_send_seconds"], one["last_receive_seconds"]) == (
        None,
        0.4,
        None,
    )
    assert not [name for name in one if name.endswith("_ns")]
