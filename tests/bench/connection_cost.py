# SPDX-License-Identifier: MIT
"""What the connection layer costs: `python -m tests.bench.connection_cost [ROUNDS]`, as root.

By the kernel's own account (`run_time_ns`), with the layer and without it in turn: the time in the
BPF programs per send or receive, and per connection that is made, accepted and closed at both ends.
"""

import os
import socket
import statistics
import sys
from collections.abc import Callable

from tests.bench.calls import Calls, Work
from tracer.model.config import Config, Filter
from tracer.session import Session

__all__ = ["main"]

_WORKS = {
    "TCP send or receive": Work("one", "tcp", 1, 800),
    "UDP send or receive": Work("one", "udp", 1, 800),
}
_CONNECTIONS = 2000


def main(rounds: int) -> None:
    """Measure, and print a table in Markdown."""
    names = (*_WORKS, "TCP connection, all calls of both ends")
    found: dict[tuple[str, bool], list[float]] = {}
    with Calls() as calls:
        for _ in range(rounds):
            for layer in (False, True):
                with _session((calls.pid, os.getpid()), layer) as session:
                    for name in names:
                        spent = _spent_ns(session, _work(name, calls))
                        found.setdefault((name, layer), []).append(spent)
    print("| ns in BPF programs | without | with | more |\n| --- | --- | --- | --- |")
    for name in names:
        off, on = found[name, False], found[name, True]
        more = statistics.median(
            with_it - without for with_it, without in zip(on, off, strict=True)
        )
        print(
            f"| {name} | {statistics.median(off):.0f} | {statistics.median(on):.0f} | {more:.0f} |"
        )


def _session(pids: tuple[int, ...], layer: bool) -> Session:
    return Session(
        Config(
            filter=Filter(pids=pids),
            mechanism="tracepoint",
            connections=layer,
            measure_cost=True,
        )
    )


def _work(name: str, calls: Calls) -> Callable[[Callable[[], None]], int]:
    """Work that calls its argument just before and just after, and returns how much it did."""

    def sends(look: Callable[[], None]) -> int:
        look()
        calls.ns_per_call(_WORKS[name])
        look()
        return _WORKS[name].calls

    def connections(look: Callable[[], None]) -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            look()
            for _ in range(_CONNECTIONS):
                client = socket.create_connection(listener.getsockname())
                server, _ = listener.accept()
                client.close()
                server.close()
            look()
        return _CONNECTIONS

    return sends if name in _WORKS else connections


def _spent_ns(session: Session, work: Callable[[Callable[[], None]], int]) -> float:
    seen: list[float] = []
    done = work(lambda: seen.append(sum(p.run_seconds for p in session.snapshot().programs)))
    return (seen[1] - seen[0]) * 1e9 / done


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
