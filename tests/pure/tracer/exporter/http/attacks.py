# SPDX-License-Identifier: MIT
"""Clients that try to keep others from the exporter, and the client whose scrapes must succeed.

    python -m tests.pure.tracer.exporter.http.attacks [SECONDS [NUMBER]]

prints a table of all attacks, or of that with the NUMBER, each for SECONDS (60): the scrapes of a
legitimate client, those that failed, and the median and the maximum of their time.
"""

import contextlib
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median

from tests.pure.tracer.exporter.http.served import exporter

__all__ = ["ATTACKS", "Address", "Attack", "Scrapes", "attacking", "scrape", "scrape_until"]

Address = tuple[str, int]
SCRAPE_SECONDS = 10.0
PAUSE_SECONDS = 0.25
_MANY = 64
_MODULE = "tests.pure.tracer.exporter.http.attacks"
_GET = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_ONE = b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Attack:
    """What the attacking connections do, and how many of them there are at a time.

    `begin` sends the first bytes. A connection that the server has closed is replaced at once.
    `reads`: the attacker reads what the server sends. The connections are spread over `processes`.
    """

    name: str
    number: int
    begin: Callable[[socket.socket], None]
    reads: bool = False
    processes: int = 1


def _send(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def _ask_and_never_read(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.sendall(_GET * 60)


_LIVE = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("64 half-made requests", _MANY, _send(b"GET / HTTP/1.1\r\n")),
        Attack("64 silent connections", _MANY, _send(b"")),
        Attack("64 clients that never read", _MANY, _ask_and_never_read),
        Attack("16 streams of the live page", 16, _send(_LIVE), reads=True),
        Attack("a flood from 8 clients", 8, _send(_ONE), reads=True, processes=8),
    )
}


class _Attacker:
    """Keeps connections of an attack open, from one source address."""

    def __init__(self, attack: Attack, target: Address, source: str) -> None:
        self._attack = attack
        self._target = target
        self._source = source
        self._number = attack.number // attack.processes
        self._open: list[socket.socket] = []

    def run(self) -> None:
        """Attack until the parent closes standard input; say so when all connections are open."""
        self._fill()
        print("attacking", flush=True)
        while True:
            # The server closes what it cuts; what it sends is read only by attackers that read.
            events = select.poll()
            events.register(0, select.POLLIN)
            by_number = {connection.fileno(): connection for connection in self._open}
            for number in by_number:
                events.register(number, select.POLLIN if self._attack.reads else select.POLLRDHUP)
            for number, _ in events.poll(50):
                if number == 0:
                    return
                self._handle(by_number[number])
            self._fill()

    def _handle(self, connection: socket.socket) -> None:
        try:
            received = connection.recv(1 << 20) if self._attack.reads else b""
        except OSError:
            received = b""
        if not received:
            connection.close()
            self._open.remove(connection)

    def _fill(self) -> None:
        while len(self._open) < self._number:
            try:
                connection = socket.create_connection(
                    self._target, SCRAPE_SECONDS, source_address=(self._source, 0)
                )
            except OSError:
                return
            self._open.append(connection)
            with contextlib.suppress(OSError):
                self._attack.begin(connection)


@contextmanager
def attacking(attack: Attack, target: Address, source: str) -> Iterator[None]:
    """Attack `target` from the address `source` until the block ends."""
    command = [sys.executable, "-m", _MODULE, "--attack", attack.name, *map(str, target)]
    with ExitStack() as stack:
        for _ in range(attack.processes):
            attacker = subprocess.Popen(
                [*command, source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            stack.enter_context(attacker)  # closes its standard input, and waits
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == b"attacking\n"
        yield


def scrape(target: Address, source: str = "127.0.0.1") -> float:
    """Scrape on a new connection; returns the seconds it took, or raises OSError."""
    begun = time.monotonic()
    with socket.create_connection(target, SCRAPE_SECONDS, source_address=(source, 0)) as client:
        client.sendall(_ONE)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), -1
    )
    if not head.startswith(b"HTTP/1.1 200 ") or len(body) != length:
        raise ConnectionError(f"no whole answer: {head[:40]!r}")
    return time.monotonic() - begun


@dataclass
class Scrapes:
    """The times of scrapes in seconds, and the errors of those that failed."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def scrape_until(end: float, target: Address, source: str) -> Scrapes:
    """Scrape again and again until this moment of the monotonic clock."""
    found = Scrapes()
    pause = threading.Event()
    while time.monotonic() < end:
        try:
            found.seconds.append(scrape(target, source))
        except OSError as error:
            found.failed.append(repr(error))
        pause.wait(PAUSE_SECONDS)
    return found


_SILENT = ATTACKS["64 silent connections"]
_ROWS = (*((attack, None) for attack in ATTACKS.values()), (_SILENT, 24))


def _rows(attack: Attack, open_files: int | None, seconds: float) -> Iterator[str]:
    """Attack an exporter with this limit of files; the rows of the table."""
    name = attack.name if open_files is None else f"{attack.name}, `ulimit -n {open_files}`"
    with exporter(open_files or 1024) as (address, _):
        for source, where in (("127.0.0.1", "the same address"), ("127.0.0.2", "another")):
            with attacking(attack, address, source):
                found = scrape_until(time.monotonic() + seconds, address, "127.0.0.1")
            times = [one * 1000 for one in found.seconds] or [float("nan")]
            yield (
                f"| {name} | {where} | {len(found.seconds)} | {len(found.failed)} "
                f"| {median(times):.0f} ms | {max(times):.0f} ms |"
            )


def _main(seconds: str = "60", number: str = "") -> None:
    print("| attack | attacker's address | scrapes | failed | median | maximum |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for attack, open_files in [_ROWS[int(number)]] if number else _ROWS:
        for row in _rows(attack, open_files, float(seconds)):
            print(row, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attack"]:
        name, host, port, source = sys.argv[2:]
        _Attacker(ATTACKS[name], (host, int(port)), source).run()
    else:
        _main(*sys.argv[1:])
