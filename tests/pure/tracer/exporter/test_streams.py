# SPDX-License-Identifier: MIT
"""Which stream of the live page makes way for a new one."""

from collections.abc import Iterator

from tests.pure.tracer.snapshots import snapshot
from tracer.exporter import streams
from tracer.exporter.http.refusals import Refusals
from tracer.exporter.live import Live
from tracer.exporter.streams import Streams


class Clients:
    """Streams that have been opened, by their readers."""

    def __init__(self) -> None:
        self.refusals = Refusals()
        self.streams = Streams(Live(snapshot, lambda: 0), self.refusals)
        self.readers: list[Iterator[bytes]] = []

    def open(self, client: str, number: int = 1) -> None:
        for _ in range(number):
            assert self.streams.has_room_for(client)
            self.readers.append(self.streams.events(client))
            assert next(self.readers[-1]) == b"retry: 1000\n\n"

    def owners(self) -> list[str]:
        return [stream.client for stream in self.streams._open]

    def close(self) -> None:
        for reader in self.readers:
            reader.close()  # type: ignore[attr-defined]
        self.streams._live.stop()


def test_an_address_cannot_take_all() -> None:
    clients = Clients()
    clients.open("a", streams.MAX_STREAMS)
    assert clients.owners() == ["a"] * streams.MAX_PER_CLIENT
    clients.open("b")
    assert clients.owners() == [*["a"] * streams.MAX_PER_CLIENT, "b"]
    assert clients.refusals.counts["stream"] == streams.MAX_STREAMS - streams.MAX_PER_CLIENT
    clients.close()


def test_when_all_are_taken_the_address_with_the_most_loses_one() -> None:
    clients = Clients()
    clients.open("a", 8)
    clients.open("b", 8)
    clients.open("c")
    assert [clients.owners().count(client) for client in "abc"] == [7, 8, 1]
    clients.close()


def test_addresses_with_as_many_keep_theirs() -> None:
    clients = Clients()
    for i in range(streams.MAX_STREAMS):
        clients.open(f"10.0.0.{i}")
    assert not clients.streams.has_room_for("10.0.1.1")
    assert clients.refusals.counts["stream"] == 1
    clients.close()


def test_a_closed_stream_makes_room() -> None:
    clients = Clients()
    clients.open("a")
    clients.close()
    assert clients.owners() == []
