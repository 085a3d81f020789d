# SPDX-License-Identifier: MIT
"""The speed of the SOCKSv4 proxy, compared with no proxy, a proxy with threads, and microsocks.

    python tests/bench/bench_proxy.py [--rounds N] [--json]

Everything runs on this machine's loopback, so proxy, clients and target share its cores. microsocks
(in C) is the Debian package of that name; without it, its row is left out. It speaks only SOCKSv5,
which needs one more message in each direction.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))  # so that it can be started by its path

from tests.bench.proxies import direct, microsocks, python_proxy
from tests.load import Target, download, echo_clients

_DOWNLOAD_BYTES = 100_000_000
_CONNECTIONS = 10_000
_CLIENTS = 1_000
_REQUESTS = 100_000


@dataclass(frozen=True)
class Result:
    """Medians of all rounds for one way."""

    way: str
    download_gigabytes_per_second: float
    connections_per_second: float
    requests_per_second: float


def _measure(target: Target, proxy: dict[str, int]) -> tuple[float, float, float]:
    once = download(target.source, bytes=_DOWNLOAD_BYTES, **proxy)
    return (
        _DOWNLOAD_BYTES / 1e9 / once.seconds,
        _CONNECTIONS / _echo(target, clients=50, each=1, **proxy),
        _REQUESTS / _echo(target, clients=_CLIENTS, together=1, **proxy),
    )


def _echo(target: Target, **options: int) -> float:
    requests = _CONNECTIONS if "each" in options else _REQUESTS
    done = echo_clients(target.echo, requests=requests, **options)
    if done.failed:
        raise SystemExit(f"{done.failed} requests failed: {done.first_failure}")
    return done.seconds


def _table(results: list[Result]) -> str:
    lines = [
        f"Linux {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "",
        "| way | 100 MB download | connections | requests, 1,000 clients |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.way} | {r.download_gigabytes_per_second:.2f} GB/s "
        f"| {r.connections_per_second:,.0f} /s | {r.requests_per_second:,.0f} /s |"
        for r in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure each way and print a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ways = {
        "no proxy": direct(),
        "this proxy: one loop": python_proxy("proxy_loop.py"),
        "two threads per client": python_proxy("proxy_threads.py"),
    }
    if shutil.which("microsocks"):
        ways["microsocks (C, a thread per client)"] = microsocks()
    rounds: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    with ExitStack() as running:
        target = running.enter_context(Target())
        proxies = {way: running.enter_context(started) for way, started in ways.items()}
        # In alternation, so that other load on the machine affects all alike.
        for _ in range(options.rounds):
            for way, proxy in proxies.items():
                rounds[way].append(_measure(target, proxy.options))
    results = [
        Result(way, *(median(column) for column in zip(*measured, strict=True)))
        for way, measured in rounds.items()
    ]
    print(json.dumps([asdict(r) for r in results]) if options.json else _table(results))


if __name__ == "__main__":
    main()
