# SPDX-License-Identifier: MIT
"""The samples of the connection layer's metrics, from given peers."""

from dataclasses import replace

from tests.pure.tracer.snapshots import aggregate, snapshot
from tracer.exporter import metrics
from tracer.exporter.connection_families import CONNECTION_FAMILIES
from tracer.exporter.families import FAMILIES, family
from tracer.exporter.metrics import Metric
from tracer.exporter.render import Format, Renderer
from tracer.model.connections import Connections, Listener, Peer

ANSWERS, CONNECTS, WAITS, LIVES = (aggregate({i: i}, i) for i in (1, 2, 3, 4))
CURL = Peer(
    "curl",
    None,
    "client",
    "tcp",
    "192.0.2.1",
    443,
    open=2,
    retransmits=5,
    resets_sent=6,
    resets_received=7,
    connects={"ok": CONNECTS, "ETIMEDOUT": CONNECTS},
    answers=ANSWERS,
    lives=LIVES,
)
NGINX = Peer("nginx", 4711, "server", "tcp", "192.0.2.2", 80, accept_waits=WAITS)
DNS = Peer("curl", None, "client", "udp", "192.0.2.3", 53, answers=ANSWERS)
LISTENERS = (
    Listener(1, 10, "nginx", "0.0.0.0", 80, 3, 511, 2),
    Listener(2, 11, "nginx", "0.0.0.0", 80, 4, 511, 5),
    Listener(3, 12, "sshd", "::", 22, 0, 128, 0),
)
SHOWN = replace(
    snapshot(),
    connections=Connections((CURL, NGINX, DNS), (), other_peer=9, listeners=LISTENERS),
)
OF_CURL, OF_NGINX = ("curl", "", "192.0.2.1", "443"), ("nginx", "4711", "192.0.2.2", "80")


def samples(metric: Metric) -> dict[tuple[str, ...], object]:
    found = family(metric, SHOWN)
    assert found.labels == metric.labels
    return dict(found.samples)


def test_durations_are_by_peer_and_only_where_there_is_one() -> None:
    assert samples(metrics.CONNECT_DURATION) == {
        (*OF_CURL, "ok"): CONNECTS,
        (*OF_CURL, "ETIMEDOUT"): CONNECTS,
    }
    assert samples(metrics.ANSWER_DURATION) == {
        (*OF_CURL, "client", "tcp"): ANSWERS,
        ("curl", "", "192.0.2.3", "53", "client", "udp"): ANSWERS,
    }
    assert samples(metrics.ACCEPT_WAIT) == {OF_NGINX: WAITS}
    assert samples(metrics.CONNECTION_DURATION) == {(*OF_CURL, "client"): LIVES}


def test_counters_of_tcp_start_at_zero_with_their_peer() -> None:
    assert samples(metrics.CONNECTIONS_OPEN) == {(*OF_CURL, "client"): 2, (*OF_NGINX, "server"): 0}
    assert samples(metrics.RETRANSMITS) == {(*OF_CURL, "client"): 5, (*OF_NGINX, "server"): 0}
    assert samples(metrics.RESETS) == {
        (*OF_CURL, "client", "sent"): 6,
        (*OF_CURL, "client", "received"): 7,
        (*OF_NGINX, "server", "sent"): 0,
        (*OF_NGINX, "server", "received"): 0,
    }
    assert samples(metrics.OTHER_PEER) == {(): 9}


def test_listeners_that_share_a_port_are_added_up() -> None:
    nginx, sshd = ("nginx", "0.0.0.0", "80"), ("sshd", "::", "22")
    assert samples(metrics.ACCEPT_QUEUE) == {nginx: 7, sshd: 0}
    assert samples(metrics.ACCEPT_QUEUE_LIMIT) == {nginx: 1022, sshd: 128}
    assert samples(metrics.ACCEPT_DROPS) == {nginx: 7, sshd: 0}


def test_a_page_has_them_as_text() -> None:
    text = Renderer(Format.PROMETHEUS).render(family(metrics.RETRANSMITS, SHOWN))
    line = '{comm="curl",pid="",peer="192.0.2.1",port="443",role="client"} 5\n'
    assert f"lunatik_socket_retransmits_total{line}" in text


def test_without_the_layer_a_page_has_nothing_of_it() -> None:
    renderer = Renderer(Format.PROMETHEUS)
    for metric in CONNECTION_FAMILIES:
        assert metric in FAMILIES
        assert renderer.render(family(metric, snapshot())) == ""
