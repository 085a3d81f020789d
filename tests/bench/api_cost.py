# SPDX-License-Identifier: MIT
"""The speed of the socket API: Python's against the standard library's, Lua's against LuaSocket."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lunatik_socket import new
from lunatik_socket.lua import State
from tests.bench.report import Bars, Section, Target, table
from tests.bench.statistic import Figure, in_turns, paired_ratio

__all__ = ["measure"]

Way = Callable[[str, int], float]
"""`way("64", 1000)` takes 1,000 rounds of 64 bytes and returns the seconds.

`"connections"` in place of the size opens and closes connections instead.
"""

_HERE = Path(__file__).parent
_ROUNDS = {"1": 4500, "4096": 4500, "65536": 900, "connections": 270}
_SLICES = 9
_BUFFER_BYTES = 1 << 20
_NAMES = {"1": "1 byte", "4096": "4 KiB", "65536": "64 KiB", "connections": "connections"}

_TEXT = """
One round sends a message and gets one back over TCP, with both ends in one thread, so that only the
calls are timed. A *call* is a send, or a receive repeated until the whole message is there. A
*connection* is new, connect, accept and two closes. Buffers are reused everywhere except in
LuaSocket, which uses strings. The result of a round is the median of its nine slices.

Thousands of calls (or connections) per second:

{rates}

Ratios to the standard library and to LuaSocket, compared round by round:

{ratios}
"""


def measure(rounds: int) -> Section:
    """Measure all ways in alternation."""
    with ExitStack() as running:
        ways: dict[str, Way] = {
            "Python's socket": _python(_standard_pair, _standard_connections),
            "this API, Python": _python(_our_pair, _our_connections),
            "this API, Lua": _our_lua(),
        }
        if shutil.which("lua5.4"):
            ways["LuaSocket"] = running.enter_context(_luasocket())
        results = in_turns({name: _every_work(way) for name, way in ways.items()}, rounds)
    rates = {
        (way, work): Figure(tuple(one[work] for one in results[way]))
        for way in results
        for work in _ROUNDS
    }
    return _section(rates, list(ways))


def _every_work(way: Way) -> Callable[[], dict[str, float]]:
    def once() -> dict[str, float]:
        return {work: _rate(way, work) for work in _ROUNDS}

    return once


def _rate(way: Way, work: str) -> float:
    """Thousands of calls or connections per second, in the median slice."""
    rounds = _ROUNDS[work] // _SLICES
    seconds = sorted(way(work, rounds) for _ in range(_SLICES))[_SLICES // 2]
    return rounds * (1 if work == "connections" else 4) / seconds / 1000


def _section(rates: dict[tuple[str, str], Figure], ways: list[str]) -> Section:
    pairs = [("this API, Python", "Python's socket"), ("this API, Lua", "LuaSocket")]
    ratios = {
        (f"{ours} / {other}", work): paired_ratio(rates[ours, work], rates[other, work])
        for ours, other in pairs
        if other in ways
        for work in _ROUNDS
    }
    text = _TEXT.format(rates=_by_work(rates, ",.0f"), ratios=_by_work(ratios, ".2f"))
    bars = [(way, rates[way, "1"].median, f"{rates[way, '1'].median:,.0f}") for way in ways]
    return Section(
        "The API",
        text,
        list(_targets(ratios)),
        [Bars("Messages of 1 byte: thousands of calls per second", bars)],
    )


_WHY = """\
- *The API*: between `send` or `recv` and the C method there is one Python function, which adds
  context to errors and accepts flags by name. Calling it takes about 40 ns of a call of 1.2 µs.
  Tried and kept: passing as few arguments to C as possible. Only the function call itself is left
  to save."""


def _targets(ratios: dict[tuple[str, str], Figure]) -> Iterator[Target]:
    wanted = {"this API, Python / Python's socket": 0.97, "this API, Lua / LuaSocket": 0.8}
    for (pair, work), ratio in ratios.items():
        least = wanted[pair]
        met = ratio.median >= least
        yield Target(f"{pair}, {_NAMES[work]}", f"≥ {least}", ratio.text(".3f"), met, _WHY)


def _by_work(figures: dict[tuple[str, str], Figure], form: str) -> str:
    ways = list(dict.fromkeys(way for way, _ in figures))
    rows = [[way, *(figures[way, work].text(form) for work in _ROUNDS)] for way in ways]
    return table(["", *_NAMES.values()], rows)


def _python(pair: Callable[[int], Any], connections: Callable[[int], None]) -> Way:
    def way(work: str, rounds: int) -> float:
        if work == "connections":
            return _timed(lambda: connections(rounds))
        with ExitStack() as held:
            ping_pong = pair(int(work))(held)
            return _timed(lambda: ping_pong(rounds))

    return way


def _timed(deed: Callable[[], object]) -> float:
    begun = time.perf_counter()
    deed()
    return time.perf_counter() - begun


def _standard_pair(size: int) -> Callable[[ExitStack], Callable[[int], None]]:
    def opened(held: ExitStack) -> Callable[[int], None]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = held.enter_context(socket.create_connection(listener.getsockname()))
            far = held.enter_context(listener.accept()[0])
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        message, buffer = bytes(size), bytearray(size)

        def ping_pong(rounds: int) -> None:
            for _ in range(rounds):
                near.send(message)
                got = far.recv_into(buffer)
                while got < size:
                    got += far.recv_into(buffer)
                far.send(message)
                got = near.recv_into(buffer)
                while got < size:
                    got += near.recv_into(buffer)

        return ping_pong

    return opened


def _our_pair(size: int) -> Callable[[ExitStack], Callable[[int], None]]:
    def opened(held: ExitStack) -> Callable[[int], None]:
        with new() as listener:
            listener.bind("127.0.0.1", 0)
            listener.listen(16)
            near = held.enter_context(new())
            near.connect(*listener.getsockname())
            far = held.enter_context(listener.accept())
        for one in (near, far):
            one.setsockopt("t", "nd", 1)
            one.setsockopt("s", "s", _BUFFER_BYTES)
            one.setsockopt("s", "r", _BUFFER_BYTES)
        message, buffer = bytes(size), bytearray(size)

        def ping_pong(rounds: int) -> None:
            for _ in range(rounds):
                near.send(message)
                got = far.recv(buffer)[1]
                while got < size:
                    got += far.recv(buffer)[1]
                far.send(message)
                got = near.recv(buffer)[1]
                while got < size:
                    got += near.recv(buffer)[1]

        return ping_pong

    return opened


def _standard_connections(rounds: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        for _ in range(rounds):
            one = socket.socket()
            one.connect(address)
            other, _ = listener.accept()
            one.close()
            other.close()


def _our_connections(rounds: int) -> None:
    with new() as listener:
        listener.bind("127.0.0.1", 0)
        listener.listen(16)
        ip, port = listener.getsockname()
        for _ in range(rounds):
            one = new()
            one.connect(ip, port)
            other = listener.accept()
            one.close()
            other.close()


def _our_lua() -> Way:
    state = State()
    state.run((_HERE / "ours.lua").read_bytes())

    def way(work: str, rounds: int) -> float:
        if work == "connections":
            return _timed(lambda: state.run(b"connections(%d)" % rounds))
        state.run(b"prepare(%d)" % int(work))
        return _timed(lambda: state.run(b"ping_pong(%d)" % rounds))

    return way


@contextmanager
def _luasocket() -> Iterator[Way]:
    with subprocess.Popen(
        ["lua5.4", _HERE / "luasocket.lua"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def way(work: str, rounds: int) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{work} {rounds}\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        yield way
        process.communicate(timeout=10)
