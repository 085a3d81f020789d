# SPDX-License-Identifier: MIT
"""Names are looked up at once, however many name servers are silent, and can be cancelled."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lunatik_socket.servers.resolver import Lookup, Resolver
from tests.pure.lunatik_socket.servers.name_server import (
    NO_SUCH_NAME,
    SERVER_FAILURE,
    NameServer,
    name_server,
)

WAIT_SECONDS = 20


@contextmanager
def resolving(*servers: NameServer) -> Iterator[tuple[Resolver, "queue.Queue[Lookup]"]]:
    """Yield a resolver, and the queue that its answers can be put into."""
    resolver = Resolver(tuple(server.address for server in servers))
    try:
        yield resolver, queue.Queue()
    finally:
        resolver.close()
        for thread in threading.enumerate():
            if thread.name == "resolver":
                thread.join(WAIT_SECONDS)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def _wait_for_descriptors(count: int) -> None:
    """The thread of pycares closes the last sockets of a channel a moment later."""
    for _ in range(WAIT_SECONDS * 100):
        if _descriptors() <= count:
            return
        threading.Event().wait(0.01)
    assert _descriptors() <= count


def test_addresses_come_once_and_in_the_order_of_the_name_server() -> None:
    answers: dict[str, list[str] | int] = {"w.test": ["192.0.2.2", "192.0.2.1", "192.0.2.2"]}
    with name_server(answers) as server, resolving(server) as (resolver, done):
        resolver.look_up("w.test", done.put)
        lookup = done.get(timeout=WAIT_SECONDS)
    assert (lookup.addresses, lookup.error) == (["192.0.2.2", "192.0.2.1"], "")


def test_a_name_in_etc_hosts_is_not_asked_for() -> None:
    with name_server() as server, resolving(server) as (resolver, done):
        resolver.look_up("localhost", done.put)
        assert done.get(timeout=WAIT_SECONDS).addresses == ["127.0.0.1"]
    assert server.asked == []


@pytest.mark.parametrize(
    ("name", "answer", "error"),
    [
        ("a.test", NO_SUCH_NAME, "Domain name not found (ENOTFOUND)"),
        ("a.test", SERVER_FAILURE, "DNS server returned general failure (ESERVFAIL)"),
        ("a.test", [], "the name has no IPv4 address"),
        ("x" * 64 + ".test", [], "Misformatted domain name (EBADNAME)"),
    ],
)
def test_errors(
    name: str, answer: list[str] | int, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
    with name_server({name: answer}) as server, resolving(server) as (resolver, done):
        resolver.look_up(name, done.put)
        lookup = done.get(timeout=WAIT_SECONDS)
    assert (lookup.addresses, lookup.error) == ([], error)


def test_no_number_of_silent_name_servers_delays_another_name() -> None:
    with (
        name_server({"quick.test": ["192.0.2.1"]}) as server,
        resolving(server) as (resolver, done),
    ):
        slow = [resolver.look_up(f"slow{number}.test", done.put) for number in range(500)]
        resolver.look_up("quick.test", done.put)
        assert done.get(timeout=WAIT_SECONDS).name == "quick.test"
        for lookup in slow:
            lookup.cancel()


def test_the_next_name_server_is_asked_after_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
    with (
        name_server() as silent,
        name_server({"w.test": ["192.0.2.1"]}) as server,
        resolving(silent, server) as (resolver, done),
    ):
        resolver.look_up("w.test", done.put)
        assert done.get(timeout=WAIT_SECONDS).addresses == ["192.0.2.1"]
        assert silent.asked == ["w.test"]


def test_a_cancelled_look_up_leaves_no_socket_and_no_answer() -> None:
    with name_server({"quick.test": ["192.0.2.1"]}) as server:
        before = _descriptors()
        with resolving(server) as (resolver, done):
            slow = [resolver.look_up(f"slow{number}.test", done.put) for number in range(100)]
            resolver.look_up("quick.test", done.put)
            assert done.get(timeout=WAIT_SECONDS).name == "quick.test"
            assert _descriptors() >= before + 100
            for lookup in slow:
                lookup.cancel()
            _wait_for_descriptors(before + 2)  # the resolver's epoll and event
            assert done.empty()
        _wait_for_descriptors(before)


def test_close_ends_the_look_ups_and_the_thread() -> None:
    with name_server() as server:
        before = _descriptors()
        with resolving(server) as (resolver, done):
            lookup = resolver.look_up("slow.test", done.put)
            assert server.heard.wait(WAIT_SECONDS)
        assert "resolver" not in {thread.name for thread in threading.enumerate()}
        lookup.cancel()
        _wait_for_descriptors(before)
        assert done.empty()


def test_without_pycares_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycares", None)
    with resolving() as (resolver, done):
        resolver.look_up("w.test", done.put)
        lookup = done.get(timeout=WAIT_SECONDS)
    assert lookup.error == "the Python package pycares is missing (pip install pycares)"


def test_neither_the_api_nor_a_proxy_without_names_imports_pycares() -> None:
    code = (
        "import sys, lunatik_socket\n"
        "from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server\n"
        "server = Socks4Server(Socks4Config(listen=('127.0.0.1', 0)))\n"
        "server.open(); server.stop(); server.serve()\n"
        "print('pycares' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
        cwd=Path(__file__).parents[4],
    )
    assert done.stdout == "False\n"
