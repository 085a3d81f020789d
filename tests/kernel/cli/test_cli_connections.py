# SPDX-License-Identifier: MIT
"""`--connections` on the command line: what it prints, and what it cannot be combined with."""

import json
import sys

from tests.kernel.cli.command_line import free_port, run

REFUSED = """
import socket, sys
for _ in range(23):
    with socket.socket() as one:
        assert one.connect_ex(("127.0.0.1", int(sys.argv[1]))) == 111
"""


def test_a_refused_connect_is_shown_with_its_peer_and_duration() -> None:
    port = str(free_port())
    done = run("trace", "--connections", "--by", "comm", "--", sys.executable, "-c", REFUSED, port)
    assert done.returncode == 0
    head, row = [line.split() for line in done.stderr.splitlines() if line][-2:]
    assert head == ["process", "role", "peer", "open", "accept", "trouble"]
    comm, role, peer, is_open, duration, unit, *trouble = row
    assert comm.startswith("python")
    assert (role, peer, is_open) == ("client", f"127.0.0.1:{port}", "0")
    assert float(duration) > 0
    assert unit in ("ns", "µs", "ms")
    assert trouble == ["23", "ECONNREFUSED"]
    [line] = [line for line in done.stderr.splitlines() if " result=ECONNREFUSED" in line]
    assert f" peer=127.0.0.1 port={port} open=0 connects=23 connect_p99_seconds=" in line


def test_the_document_has_peers_and_the_tracer_lost_nothing() -> None:
    port = str(free_port())
    done = run("trace", "--connections", "--json", "--", sys.executable, "-c", REFUSED, port)
    document = json.loads(done.stdout)
    [peer] = document["peers"]
    assert (peer["peer"], peer["port"], peer["role"]) == ("127.0.0.1", int(port), "client")
    [connects] = peer["connects"]
    assert (connects["result"], connects["count"]) == ("ECONNREFUSED", 23)
    assert connects["p99_seconds"] > 0
    assert not any(document["tracer"]["lost"].values())


def test_the_layer_cannot_be_combined_with_a_choice_of_operations() -> None:
    done = run("trace", "--connections", "--operation", "send", "--duration", "1")
    assert done.returncode == 2
    assert "--operation cannot be combined with --connections" in done.stderr
