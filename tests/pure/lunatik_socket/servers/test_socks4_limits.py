# SPDX-License-Identifier: MIT
"""The SOCKSv4 proxy at its limits: many, slow, silent and stuck clients, descriptors, stopping."""

import errno
import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from errno import errorcode
from pathlib import Path

import pytest

from lunatik_socket.servers import socks4
from lunatik_socket.servers.resolver import Resolver
from tests.load import Target, download, echo_clients
from tests.pure.lunatik_socket.servers.name_server import name_server
from tests.pure.lunatik_socket.servers.serving import (
    GRANTED,
    REFUSED,
    WAIT_SECONDS,
    accepted,
    asking,
    connected,
    listening,
    logged,
    proxy,
    read_all,
    read_exactly,
    tunnel,
)

LOGGER = "lunatik_socket.servers.socks4"


def _can_read(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


# ---------------------------------------------------------------------- many


def test_a_thousand_clients_at_once_a_hundred_thousand_requests() -> None:
    with proxy(max_clients=1000) as server, Target() as target:
        done = echo_clients(
            target.echo,
            proxy=server.address[1],
            clients=1000,
            requests=100_000,
            together=1,
            seconds=60,
        )
        assert done.first_failure == ""
        assert (done.requests, done.failed) == (100_000, 0)
        assert (done.connections, done.most_at_once) == (1000, 1000)
    stats = server.stats()
    assert (stats.accepted, stats.connected, stats.active) == (1000, 1000, 0)
    assert (stats.refused, stats.timed_out, stats.broken) == (0, 0, 0)
    assert (stats.bytes_to_target, stats.bytes_to_client) == (6_400_000, 6_400_000)


def test_a_connection_for_each_request() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with proxy() as server, Target() as target:
        done = echo_clients(
            target.echo, proxy=server.address[1], clients=50, requests=5003, each=1, seconds=60
        )
        assert (done.requests, done.failed, done.connections) == (5003, 0, 5003)
    assert (server.stats().connected, server.stats().broken) == (5003, 0)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_big_requests_both_ways_at_once() -> None:
    with proxy() as server, Target() as target:
        done = echo_clients(
            target.echo, proxy=server.address[1], clients=7, requests=23, bytes=3_000_017
        )
        assert (done.requests, done.failed) == (23, 0)
    assert server.stats().bytes_to_target == server.stats().bytes_to_client == 23 * 3_000_017


# ---------------------------------------------------------------------- slow


def test_a_slow_reader_costs_little_memory_and_delays_no_other_client() -> None:
    size = 60_000_000  # far more than fits into the kernel's buffers
    with proxy() as server, Target() as target, connected(server.address) as slow:
        slow.sendall(asking(target.source) + size.to_bytes(8, "little"))
        assert read_exactly(slow, 8) == GRANTED
        fast = download(target.source, proxy=server.address[1], bytes=50_000_000)
        assert fast.bytes == 50_000_000
        assert 0 < server._shared.buffers.held_bytes <= 256 * 1024
        assert server.stats().bytes_to_client < 50_000_000 + size
        pattern = bytes(i + 1 for i in range(251)) * 264
        place = 0
        while more := slow.recv(65536):
            start = place % 251
            assert more == pattern[start : start + len(more)]
            place += len(more)
        assert place == size
    assert server._shared.buffers.held_bytes == 0
    assert server.stats().bytes_to_client == 50_000_000 + size


def test_the_held_bytes_of_a_cut_client_are_dropped() -> None:
    with (
        proxy(idle_timeout_seconds=0.3) as server,
        Target() as target,
        connected(server.address) as slow,
        logged(LOGGER, "timed out: no traffic in time") as cut,
    ):
        slow.sendall(asking(target.source) + (60_000_000).to_bytes(8, "little"))
        assert cut.wait(WAIT_SECONDS)
    assert server._shared.buffers.held_bytes == 0
    assert server.stats().timed_out == 1


def _drip(slow: socket.socket) -> None:
    """Send single bytes slowly, so that the request goes on but is never complete."""
    for _ in range(250):
        if _can_read(slow, 0.02):
            slow.recv(1)
        slow.sendall(b"u")


def test_a_request_that_never_ends_is_cut() -> None:
    with proxy(request_timeout_seconds=0.3) as server, connected(server.address) as slow:
        slow.sendall(asking(80)[:-1])
        with pytest.raises(ConnectionResetError):
            _drip(slow)
    assert (server.stats().timed_out, server.stats().refused) == (1, 0)


def test_dripping_clients_do_not_keep_others_out() -> None:
    with (
        ExitStack() as drips,
        proxy(max_clients=600, request_timeout_seconds=60) as server,
        listening() as listener,
    ):
        for _ in range(500):
            drips.enter_context(connected(server.address)).sendall(b"\x04\x01")
        with tunnel(server, listener) as (client, target):
            client.sendall(b"x")
            assert target.recv(1) == b"x"
        drips.close()


def test_silent_clients_do_not_count_for_max_clients() -> None:
    with ExitStack() as silent, proxy(max_clients=1) as server, listening() as listener:
        for _ in range(20):
            silent.enter_context(connected(server.address))
        with tunnel(server, listener) as (client, target):
            client.sendall(b"x")
            assert target.recv(1) == b"x"
        assert server.stats().accepted == 1
        silent.close()


def test_an_idle_connection_is_reset_on_both_sides() -> None:
    with (
        proxy(idle_timeout_seconds=0.2) as server,
        listening() as listener,
        tunnel(server, listener) as sides,
    ):
        for side in sides:
            with pytest.raises(ConnectionResetError):
                side.recv(1)
    assert (server.stats().timed_out, server.stats().connected) == (1, 1)


def test_traffic_one_way_is_not_idle() -> None:
    with (
        proxy(idle_timeout_seconds=0.3) as server,
        listening() as listener,
        tunnel(server, listener) as (client, target),
    ):
        for _ in range(15):
            client.sendall(b"x")
            assert target.recv(1) == b"x"
            assert not _can_read(client, 0.05)
    assert server.stats().timed_out == 0


def test_a_destination_that_does_not_answer_is_refused_in_time() -> None:
    with ExitStack() as fill, listening(backlog=0) as full:
        # The kernel drops a SYN for a full backlog, which looks like a host that does not answer.
        for _ in range(3):
            waiting = fill.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with proxy(connect_timeout_seconds=0.2) as server, connected(server.address) as client:
            client.sendall(asking(full.getsockname()[1]))
            assert read_all(client) == REFUSED
    assert (server.stats().timed_out, server.stats().refused) == (1, 1)


def test_a_stuck_connection_burns_no_cpu() -> None:
    with (
        proxy(tally=True) as server,
        listening() as listener,
        tunnel(server, listener) as (client, target),
    ):
        # Both directions of the client's socket have ended. epoll always reports that as a hang-up,
        # but the proxy may not read from the client, because the target takes nothing.
        target.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.settimeout(0.3)
        sent = 0
        with suppress(TimeoutError):
            while sent < 200_000_000:
                sent += client.send(b"x" * 65536)
        assert sent < 200_000_000
        client.shutdown(socket.SHUT_WR)
        before = server.stats().calls["select"]
        assert select.poll().poll(300) == []  # time in which a busy loop would show
        assert server.stats().calls["select"] - before < 10
        assert len(read_all(target)) == sent
    assert server.stats().bytes_to_target == sent


def test_an_idle_proxy_sleeps() -> None:
    with proxy(tally=True) as server, listening() as listener:
        with tunnel(server, listener):
            pass
        assert select.poll().poll(300) == []
        assert server.stats().calls["select"] < 15


# ---------------------------------------------------------------------- too many


def test_beyond_the_limit_clients_wait_their_turn() -> None:
    with (
        proxy(max_clients=2) as server,
        listening() as listener,
        tunnel(server, listener),
        ExitStack() as second,
        connected(server.address) as third,
        logged(LOGGER, "not accepting for now: 2 clients, the limit") as resting,
    ):
        second.enter_context(tunnel(server, listener))
        third.sendall(asking(listener.getsockname()[1]))
        assert resting.wait(WAIT_SECONDS)
        assert not _can_read(third, 0.1)
        assert (server.stats().accepted, server.stats().active) == (2, 2)
        second.close()
        assert read_exactly(third, 8) == GRANTED
        accepted(listener).close()
    assert server.stats().accepted == 3


def test_half_made_requests_make_way_for_another_client() -> None:
    with (
        proxy(max_clients=20, request_timeout_seconds=300) as server,
        listening() as listener,
        tunnel(server, listener) as (client, target),
        ExitStack() as half_made,
        logged(LOGGER, "reset: it sent no request, and another client needed the room") as made_way,
    ):
        for _ in range(25):
            half_made.enter_context(connected(server.address)).sendall(b"\x04")
        with tunnel(server, listener) as (second, second_target):
            second.sendall(b"x")
            assert second_target.recv(1) == b"x"
        client.sendall(b"y")
        assert target.recv(1) == b"y"
        assert made_way.wait(WAIT_SECONDS)
        half_made.close()
    assert server.stats().turned_away >= 6
    assert server.stats().timed_out == 0


def test_an_address_with_its_most_clients_gets_no_more() -> None:
    with (
        proxy(max_clients_per_address=2) as server,
        listening() as listener,
        tunnel(server, listener),
        ExitStack() as second,
        logged(LOGGER, "reset: too many clients of this address") as turned_away,
    ):
        second.enter_context(tunnel(server, listener))
        with connected(server.address) as third:
            third.sendall(asking(listener.getsockname()[1]))
            with pytest.raises(ConnectionResetError):
                third.recv(1)
        assert turned_away.wait(WAIT_SECONDS)
        with socket.socket() as other:
            other.settimeout(WAIT_SECONDS)
            other.bind(("127.0.0.2", 0))
            other.connect(server.address)
            other.sendall(asking(listener.getsockname()[1]))
            assert read_exactly(other, 8) == GRANTED
            accepted(listener).close()
        assert (server.stats().turned_away, server.stats().refused) == (1, 0)


def test_an_address_with_its_most_requests_under_way_gets_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with name_server() as names:
        made = Resolver((names.address,))
        monkeypatch.setattr(socks4, "Resolver", lambda: made)
        with (
            proxy(max_requests_per_address=2) as server,
            listening() as listener,
            ExitStack() as slow,
        ):
            port = listener.getsockname()[1]
            clients = [slow.enter_context(connected(server.address)) for _ in range(3)]
            for client in clients:
                client.sendall(asking(port, "0.0.0.1", name=b"slow.example"))
            assert REFUSED in [read_all(c) for c in clients if _can_read(c, WAIT_SECONDS / 10)]
            assert server.stats().refused == 1


def test_a_half_made_request_makes_way_for_a_request_of_its_address() -> None:
    with (
        proxy(max_requests_per_address=2, request_timeout_seconds=300) as server,
        listening() as listener,
        ExitStack() as half_made,
    ):
        first, second = (half_made.enter_context(connected(server.address)) for _ in range(2))
        for client in (first, second):
            client.sendall(b"\x04")
            while not any(s._client.peer == client.getsockname() for s in list(server._sessions)):
                assert not _can_read(client, 0.01)
        with tunnel(server, listener):
            with pytest.raises(ConnectionResetError):
                first.recv(1)
            assert not _can_read(second, 0.1)
    assert (server.stats().turned_away, server.stats().refused) == (1, 0)


_TRANSIENT = (
    *("EPERM", "EACCES", "ECONNABORTED", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN"),
    *("ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "ENOSR", "ESOCKTNOSUPPORT"),
    *("EPROTONOSUPPORT", "ETIMEDOUT", "ECONNRESET", "ENFILE", "EMFILE", "ENOBUFS", "ENOMEM"),
)


@pytest.mark.parametrize("error", _TRANSIENT)
def test_no_error_of_accept_ends_it(error: str, tmp_path: Path) -> None:
    log = tmp_path / "strace"
    strace = ("strace", "-f", "-o", str(log), "-e", "trace=accept4")
    strace += ("-e", f"inject=accept4:error={error}:when=1..3")
    with (
        _process(*strace) as (process, port),
        listening() as listener,
        connected(("127.0.0.1", port)) as client,
    ):
        client.sendall(asking(listener.getsockname()[1]))
        assert read_exactly(client, 8) == GRANTED
        tracee = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        os.kill(int(tracee), signal.SIGTERM)
        assert process.stdout is not None
        _, errors, _ = json.loads(process.stdout.read())
    assert errors[f"accept {errorcode[getattr(errno, error)]}"] == 3


def test_an_accept_that_always_fails_is_no_busy_loop() -> None:
    strace = ("strace", "-f", "-o", "/dev/null", "-e", "trace=accept4")
    strace += ("-e", "inject=accept4:error=EPERM")
    with _process(*strace) as (process, port), connected(("127.0.0.1", port)) as client:
        client.sendall(b"\x04")
        assert not _can_read(client, 1.0)
        tracee = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        os.kill(int(tracee), signal.SIGTERM)
        assert process.stdout is not None
        _, errors, _ = json.loads(process.stdout.read())
    assert 16 <= errors["accept EPERM"] < 300  # 16 in 0.2 s


def test_out_of_descriptors_is_a_pause_and_not_a_busy_loop() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        proxy(tally=True) as server,
        listening() as listener,
        connected(server.address) as client,
        logged(LOGGER, "not accepting for now: ") as resting,
    ):
        in_use = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, hard))
            holes = _fill_holes()
            client.sendall(asking(listener.getsockname()[1]))
            assert resting.wait(WAIT_SECONDS)
            assert not _can_read(client, 0.5)
            assert server.stats().calls["select"] < 30
            assert server.stats().errors["accept", "EMFILE"] < 10
        finally:
            for hole in holes:
                os.close(hole)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert read_exactly(client, 8) == GRANTED


def _fill_holes() -> list[int]:
    holes = []
    while True:
        try:
            holes.append(os.dup(0))
        except OSError:
            return holes


def test_no_descriptor_for_the_destination_is_a_refusal() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        proxy(request_timeout_seconds=60) as server,
        listening() as listener,
        connected(server.address) as client,
        logged(LOGGER, 'refused: cannot make "inet tcp socket": Too many open files') as refused,
    ):
        client.sendall(b"\x04")
        request = asking(listener.getsockname()[1])
        while server.stats().active < 1:
            assert not _can_read(client, 0.01)
        in_use = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (in_use, hard))
            holes = _fill_holes()
            client.sendall(request[1:])
            assert refused.wait(WAIT_SECONDS)
        finally:
            for hole in holes:
                os.close(hole)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert read_all(client) == REFUSED


# ---------------------------------------------------------------------- the end


def test_stop_lets_clients_finish(caplog: pytest.LogCaptureFixture) -> None:
    with (
        logged(LOGGER, "stopping, with 1 clients connected") as stopping,
        proxy(grace_seconds=60) as server,
        listening() as listener,
        tunnel(server, listener) as (client, target),
    ):
        server.stop()
        server.stop()
        assert stopping.wait(WAIT_SECONDS)
        client.sendall(b"one thing more")
        client.shutdown(socket.SHUT_WR)
        assert read_all(target) == b"one thing more"
        with pytest.raises(ConnectionRefusedError):
            connected(server.address)
    assert server.stats().broken == 0
    assert [line for line in caplog.messages if "stopping" in line] == [
        "stopping, with 1 clients connected"
    ]
    server.stop()


def test_stop_cuts_clients_that_do_not_finish() -> None:
    with (
        proxy(grace_seconds=0.1) as server,
        listening() as listener,
        tunnel(server, listener) as sides,
    ):
        server.stop()
        for side in sides:
            with pytest.raises(ConnectionResetError):
                side.recv(1)


_SERVE = """
import dataclasses, json, signal, sys
from lunatik_socket.servers.socks4 import Socks4Config, Socks4Server
server = Socks4Server(Socks4Config(listen=("127.0.0.1", 0), tally=True, grace_seconds=0.1))
signal.signal(signal.SIGTERM, lambda *_: server.stop())
server.open()
print(server.address[1], flush=True)
server.serve()
stats = server.stats()
print(json.dumps([stats.calls, {" ".join(key): n for key, n in stats.errors.items()},
    stats.call_bytes]))
"""


@contextmanager
def _process(*before: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [*before, sys.executable, "-c", _SERVE]
    root = Path(__file__).parents[4]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_signal_stops_it() -> None:
    with (
        _process() as (process, port),
        listening() as listener,
        connected(("127.0.0.1", port)) as client,
    ):
        client.sendall(asking(listener.getsockname()[1]))
        assert read_exactly(client, 8) == GRANTED
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0


# ---------------------------------------------------------------------- the tally

_OPERATION_OF = {
    **{"socket": "new", "accept4": "accept", "sendto": "send", "recvfrom": "recv"},
    **{"epoll_wait": "select", "epoll_create1": "poll"},
}
_TRACED = "socket,bind,listen,accept4,connect,sendto,recvfrom,getsockname,getpeername,getsockopt"
_TRACED += ",setsockopt,epoll_wait,epoll_create1,close"


def test_the_tally_agrees_with_strace(tmp_path: Path) -> None:
    log = tmp_path / "strace"
    strace = ("strace", "-f", "-yy", "-o", str(log), "-e", f"trace={_TRACED}")
    with _process(*strace) as (process, port), Target() as target:
        done = echo_clients(target.echo, proxy=port, clients=5, requests=23, each=1)
        assert (done.requests, done.failed) == (23, 0)
        with connected(("127.0.0.1", port)) as client, listening() as listener:
            closed_port = listener.getsockname()[1]
            listener.close()
            client.sendall(asking(closed_port))
            assert read_all(client) == REFUSED
        tracee = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        os.kill(int(tracee), signal.SIGTERM)
        assert process.stdout is not None
        calls, errors, moved = json.loads(process.stdout.read())
    seen: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    seen_bytes: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        found = re.match(r"\d+ +(\w+)\(.*\) += (-?\d+)(?:<.*>)?(?: (E\w+))?", line)
        if not found or (found[1] == "close" and "<TCP:[" not in line and "<UDP:[" not in line):
            continue
        operation = _OPERATION_OF.get(found[1], found[1])
        if found[3] == "EINTR":
            continue  # Python waits again after the signal
        seen[operation] += 1
        if found[3]:
            failed[f"{operation} {found[3]}"] += 1
        elif operation in {"send", "recv"}:
            seen_bytes[operation] += int(found[2])
    assert calls == dict(seen)
    assert errors == dict(failed)
    assert moved == dict(seen_bytes)
    assert calls["accept"] - errors.get("accept EAGAIN", 0) == 24
    assert "getpeername" not in calls


def test_without_a_tally_nothing_is_counted() -> None:
    with proxy() as server, listening() as listener, tunnel(server, listener):
        pass
    assert server.stats().calls == {}
