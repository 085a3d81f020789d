# SPDX-License-Identifier: MIT
"""The rows, the plain lines and the table of peers, from given snapshots."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.pure.tracer.snapshots import aggregate, series, snapshot
from tracer.model.connections import Connections, Peer
from tracer.model.snapshot import Snapshot
from tracer.terminal import tables as draw
from tracer.terminal.peer_table import peer_table
from tracer.terminal.peers import PeerRow, address_of, peer_rows
from tracer.terminal.rows import Header, rows
from tracer.terminal.view import LinesView

CURL = Peer(
    "curl",
    None,
    "client",
    "tcp",
    "127.0.0.1",
    1,
    resets_received=2,
    connects={"ECONNREFUSED": aggregate({100: 2}, 50)},
)
NGINX = Peer(
    "nginx",
    None,
    "server",
    "tcp",
    "192.168.100.200",
    443,
    open=3,
    connections=5,
    retransmits=4,
    resets_sent=1,
    answers=aggregate({160: 23}, 70),
    accept_waits=aggregate({140: 5}, 70),
)
HEADER = Header("every process", None)


def with_peers(*peers: Peer) -> Snapshot:
    return replace(snapshot(), connections=Connections(peers, ()))


def drawn(renderable: object, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(renderable)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_without_the_layer_there_are_no_rows() -> None:
    assert peer_rows(None, snapshot()) == []


def test_the_busiest_of_the_last_interval_come_first() -> None:
    idle = replace(NGINX, comm="idle", answers=aggregate({160: 1000}, 70))
    old = with_peers(idle, replace(NGINX, answers=aggregate({160: 22}, 69)))
    found = peer_rows(old.connections, with_peers(idle, NGINX))
    assert [(row.total.comm, row.turns) for row in found] == [("nginx", 1), ("idle", 0)]
    assert found[1].recent is None


def test_trouble_has_failures_and_resets_once() -> None:
    assert list(PeerRow(CURL, None).trouble()) == [(2, "ECONNREFUSED")]
    assert list(PeerRow(NGINX, None).trouble()) == [(4, "resent"), (1, "reset")]
    both = replace(
        CURL,
        connects={"ok": aggregate({1: 9}), "EIO": aggregate({1: 1}), "aborted": aggregate({1: 3})},
    )
    assert list(PeerRow(both, None).trouble()) == [(3, "aborted"), (1, "EIO"), (2, "reset")]


def test_an_address_is_written_with_the_port_of_the_service() -> None:
    assert address_of(CURL) == "127.0.0.1:1"
    assert address_of(replace(CURL, peer="::1")) == "[::1]:1"
    assert address_of(NGINX) == "192.168.100.200 on :443"


def test_the_table_fits_into_80_columns() -> None:
    found = peer_rows(None, with_peers(CURL, NGINX))
    lines = drawn(peer_table(found, 10, live=False))
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(lines[-2].split()).startswith("nginx server 192.168.100.200 on :")
    assert "200 on :443 3 10.6 ms 59.9 ms 59.9 ms 4 r" in " ".join(lines[-2].split())
    assert "curl" in lines[-1]


def test_a_refused_connect_is_shown_with_its_peer_and_duration() -> None:
    lines = drawn(peer_table(peer_rows(None, with_peers(CURL)), 10, live=False))
    assert lines[-1].split() == [
        "curl",
        "client",
        "127.0.0.1:1",
        "0",
        "331",
        "µs",
        "2",
        "ECONNREFUSED",
    ]


def test_rows_that_do_not_fit_are_counted() -> None:
    found = peer_rows(None, with_peers(*(replace(CURL, port=port) for port in range(7))))
    assert drawn(peer_table(found, 5, live=True))[-1] == "and 2 more peers"


@pytest.mark.parametrize("operations", [0, 100])
def test_the_live_table_leaves_room_for_peers(operations: int) -> None:
    many = with_peers(*(replace(CURL, port=port) for port in range(100)))
    [row] = rows(snapshot(series()), snapshot(series()), 1.0)
    table = draw.live_table(
        HEADER,
        many,
        [replace(row) for _ in range(operations)],
        1.0,
        height=40,
        peers=peer_rows(None, many),
    )
    lines = drawn(table)
    assert 36 <= len(lines) <= 40
    assert "more peers" in lines[-1]
    assert sum(line.startswith("send") for line in lines) == (16 if operations else 0)


def test_control_characters_of_a_process_are_escaped() -> None:
    found = peer_rows(None, with_peers(replace(CURL, comm="a\x1b[2J")))
    assert "a\\x1b[2J" in drawn(peer_table(found, 5, live=False))[-1]


def test_plain_lines_have_the_peers_that_changed() -> None:
    stream = io.StringIO()
    view = LinesView(stream, HEADER)
    view.begin(with_peers(CURL))
    view.update(with_peers(CURL))
    assert stream.getvalue() == "# tracing every process\n"
    view.update(with_peers(CURL, NGINX))
    line = stream.getvalue().splitlines()[-1]
    fields = dict(field.split("=", 1) for field in line.split())
    assert fields.pop("time")
    assert fields == {
        "process": "nginx",
        "role": "server",
        "transport": "tcp",
        "peer": "192.168.100.200",
        "port": "443",
        "open": "3",
        "connects": "0",
        "failed": "0",
        "answers": "23",
        "answer_p50_seconds": "0.059850205",
        "answer_p99_seconds": "0.059850205",
        "retransmits": "4",
        "resets": "1",
    }
