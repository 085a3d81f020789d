# SPDX-License-Identifier: MIT
"""The speed of the SOCKSv4 proxy untraced and traced, compared with no proxy and others."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from statistics import median

from tests.bench import proxies
from tests.bench.peers import ours
from tests.bench.proxies import PEERS, Way
from tests.bench.report import Bars, Section, Target, table
from tests.bench.statistic import Figure, in_turns, paired_ratio
from tests.load import Target as Server
from tests.load import download, echo_clients

__all__ = ["measure"]

_LARGE, _SMALL, _PARALLEL = 100_000_000, 5_000_000, 8
_DOWNLOADS = 3
_CONNECTIONS, _CLIENTS = 2_000, 50
_TRACED = "this proxy, traced"
_PLAIN = "this proxy"
_DIRECT = "no proxy"
_BARE = "a bare Python loop"
_LUA = "this proxy's example in Lua"
_WORKS = {
    "100 MB, GB/s": ".2f",
    "5 MB, GB/s": ".2f",
    f"{_PARALLEL} x 5 MB at once, GB/s": ".2f",
    "connections/s": ",.0f",
}

_TEXT = """
Client, proxy and target share this machine's loopback and its CPUs. A connection is opened, carries
one message in each direction, and is closed; {clients} clients run at once. The download figure of
a round is the median of three. For measurements with a thousand clients see
[servers.md](servers.md).

*No proxy* is the upper limit. *A bare Python loop* shows what Python can reach: two threads per
client, recv_into and sendall on one buffer of 256 KiB each, without limits, time-outs or counters.
The example in Lua is `examples/lua/socks4.lua`, a single loop of the documented calls with a buffer
of 64 KiB. The others are Debian's packages, written in C: microsocks uses a thread per client and
speaks SOCKSv5, which needs one more message in each direction; dante uses processes; `ssh -D` goes
through a server on this machine with OpenSSH's default cipher, so every byte is encrypted and
decrypted once.

{rates}

Ratios, compared round by round:

{ratios}
"""


def measure(rounds: int) -> Section:
    """Measure all ways in alternation; tracing starts and stops in each round."""
    with ExitStack() as running:
        plain = running.enter_context(proxies.python_proxy("proxy_loop.py"))
        ways = {
            _DIRECT: _round(running.enter_context(proxies.direct()), traced=False),
            _PLAIN: _round(plain, traced=False),
            _TRACED: _round(plain, traced=True),
        }
        others: dict[str, Callable[[], AbstractContextManager[Way]]]
        others = {_BARE: partial(proxies.python_proxy, "proxy_bare.py"), _LUA: proxies.lua_proxy}
        others |= {
            name: serving for name, (program, serving) in PEERS.items() if shutil.which(program)
        }
        for name, serving in others.items():
            ways[name] = _round(running.enter_context(serving()), traced=False)
        results = in_turns(ways, rounds)
    rates = {
        (way, work): Figure(tuple(one[work] for one in results[way]))
        for way in results
        for work in _WORKS
    }
    return _section(rates)


def _round(way: Way, *, traced: bool) -> Callable[[], dict[str, float]]:
    def once() -> dict[str, float]:
        # A new server each time: TIME_WAIT connections of the last round take none of its ports.
        with Server() as server, ours(way.pid) if traced else nullcontext():
            return dict(zip(_WORKS, _rates(server, way.options), strict=True))

    return once


def _rates(server: Server, way: dict[str, int]) -> Iterator[float]:
    for size in (_LARGE, _SMALL):
        seconds = (download(server.source, bytes=size, **way).seconds for _ in range(_DOWNLOADS))
        yield size / 1e9 / median(seconds)
    yield _PARALLEL * _SMALL / 1e9 / _at_once(server, way)
    done = echo_clients(server.echo, clients=_CLIENTS, each=1, requests=_CONNECTIONS, **way)
    if done.failed:
        raise RuntimeError(f"{done.failed} requests failed: {done.first_failure}")
    yield _CONNECTIONS / done.seconds


def _at_once(server: Server, way: dict[str, int]) -> float:
    """Seconds from the start of the first client to the end of the last, with process starts."""
    with ThreadPoolExecutor(_PARALLEL) as clients:
        begun = time.perf_counter()
        list(clients.map(lambda _: download(server.source, bytes=_SMALL, **way), range(_PARALLEL)))
        return time.perf_counter() - begun


def _section(rates: dict[tuple[str, str], Figure]) -> Section:
    large, _, _, connections = _WORKS
    wanted = [
        (_TRACED, _DIRECT, large, 0.75),
        (_TRACED, _PLAIN, large, 0.98),
        (_TRACED, _PLAIN, connections, 0.98),
        (_TRACED, "microsocks", large, 3.5),
        (_PLAIN, "microsocks", connections, 0.8),
        (_TRACED, "ssh -D", large, 4),
    ]
    targets = [_target(rates, *one) for one in wanted]
    compared = [[target.what, target.figure] for target in targets if target.met is not None]
    compared += [
        [
            _what(_PLAIN, other, work),
            paired_ratio(rates[_PLAIN, work], rates[other, work]).text(".2f"),
        ]
        for other in (_BARE, "dante")
        for work in (large, connections)
        if (other, work) in rates
    ]
    ways = list(dict.fromkeys(way for way, _ in rates))
    rows = [[way, *(rates[way, work].text(form) for work, form in _WORKS.items())] for way in ways]
    bars = [(way, rates[way, large].median, f"{rates[way, large].median:.2f} GB/s") for way in ways]
    text = _TEXT.format(
        clients=_CLIENTS,
        rates=table(["", *_WORKS], rows),
        ratios=table(["", "ratio"], compared),
    )
    return Section("The proxy", text, targets, [Bars("A download of 100 MB: GB/s", bars)])


_WHY_BYTES = """\
- *100 MB through the proxy*: a third process copies every byte out of the kernel and back in, on
  two CPUs that client and target already use fully. A bare Python loop of recv_into and sendall,
  without limits and time-outs, is no faster than this proxy. splice(2) would copy nothing, but no
  probe of this tracer sees it."""
_WHY_CONNECTIONS = """\
- *Connections*: about 30 system calls are traced for each connection. A ratio whose interval
  includes 1 is within the noise."""


def _target(
    rates: dict[tuple[str, str], Figure], above: str, below: str, work: str, least: float
) -> Target:
    what = _what(above, below, work)
    if (below, work) not in rates:
        return Target(what, f"≥ {least}", f"{below} is not installed", None)
    ratio = paired_ratio(rates[above, work], rates[below, work])
    why = _WHY_CONNECTIONS if "connections" in work else _WHY_BYTES
    return Target(what, f"≥ {least}", ratio.text(".2f"), ratio.median >= least, why)


def _what(above: str, below: str, work: str) -> str:
    return f"{work.partition(',')[0]}: {above} / {below}"
