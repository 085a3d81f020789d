# SPDX-License-Identifier: MIT
"""A thousand clients use the traced proxy. The tracer's counts equal the proxy's own tally."""

import json
import os
import signal
import subprocess
import sys

from tests.kernel.children import wait_until
from tests.load import Target, echo_clients, program
from tracer.model.config import Config, Filter
from tracer.session import Session

# The proxy prints its port, serves until SIGTERM, and prints the calls that it made.
PROXY = """
import json, signal, sys, threading
from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server
sys.stdin.readline()
server = Socks4Server(Socks4Config(listen=("127.0.0.1", 0), max_clients=1500, tally=True))
server.open()
signal.signal(signal.SIGTERM, lambda *_: server.stop())
print(server.address[1], flush=True)
server.serve()
stats = server.stats()
print(json.dumps({
    "calls": stats.calls,
    "bytes": stats.call_bytes,
    "errors": [[*key, number] for key, number in stats.errors.items()],
}), flush=True)
"""


def test_a_thousand_clients_a_hundred_thousand_requests() -> None:
    program()  # compiled beforehand
    proxy = subprocess.Popen(
        [sys.executable, "-c", PROXY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert proxy.stdin is not None
    assert proxy.stdout is not None
    try:
        with Session(Config(filter=Filter(pids=(proxy.pid,), follow_forks=True))) as session:
            proxy.stdin.write("\n")
            proxy.stdin.flush()
            port = int(proxy.stdout.readline())
            with Target() as target:
                result = echo_clients(
                    target.echo, proxy=port, clients=1000, requests=100_000, together=1
                )
            assert (result.requests, result.failed) == (100_000, 0), result.first_failure
            assert result.most_at_once == 1000
            os.kill(proxy.pid, signal.SIGTERM)
            own = json.loads(proxy.stdout.readline())
            assert proxy.wait(timeout=60) == 0
            wait_until(lambda: not any(session.snapshot().in_progress().values()), "its end")
            snapshot = session.snapshot()
    finally:
        proxy.kill()
        proxy.communicate(timeout=60)

    counted = {s.name: snapshot.total(s.name) for s in snapshot.operations}
    assert {name: total.count for name, total in counted.items()} == own["calls"]
    for name, moved in own["bytes"].items():
        assert counted[name].bytes == moved, name
    errors = {
        (name, error): number
        for name, total in counted.items()
        for error, number in total.errors.items()
    }
    assert errors == {(name, error): number for name, error, number in own["errors"]}
    assert counted["accept"].count >= 1000
    assert counted["connect"].errors == {"EINPROGRESS": 1000}
    assert not any(snapshot.lost.values())
