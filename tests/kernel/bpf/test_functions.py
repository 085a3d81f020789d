# SPDX-License-Identifier: MIT
"""The function layer by each mechanism: what it counts and what it must not count."""

import errno
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import lunatik_socket
from tests.kernel.bpf.sockets import PAIRS, N, listener, tcp_pair, transports, udp_pair
from tests.kernel.children import Child, wait_until
from tracer.kernel.capabilities import kernel_preempts
from tracer.model.operations import FUNCTIONS
from tracer.model.snapshot import Snapshot, difference
from tracer.session import Session


@pytest.fixture(params=["kprobe", "fentry"])
def layer(request: pytest.FixtureRequest, sessions: Callable[[str], Session]) -> Session:
    return sessions(request.param)


class Moves:
    """The change of the functions' numbers; filled when the `with` block ends."""

    snapshot: Snapshot

    def count(self, function: str, path: str = "user", transport: str | None = None) -> int:
        return sum(s.aggregate.count for s in self._series(function, path, transport))

    def bytes(self, function: str, path: str = "user") -> int:
        return sum(s.aggregate.bytes for s in self._series(function, path, None))

    def errors(self, function: str) -> Counter[str]:
        result: Counter[str] = Counter()
        for series in self._series(function, "user", None):
            result.update(series.aggregate.errors)
        return result

    def sum_ns(self, function: str) -> int:
        return sum(s.aggregate.sum_ns for s in self._series(function, "user", None))

    def _series(self, function: str, path: str, transport: str | None) -> list[object]:
        return [  # type: ignore[return-value]
            s
            for s in self.snapshot.functions
            if (s.name, s.path) == (function, path) and transport in (None, s.transport)
        ]


@contextmanager
def moved(session: Session, *, exact: bool = True) -> Iterator[Moves]:
    moves = Moves()
    before = session.snapshot()
    yield moves
    after = session.snapshot()
    moves.snapshot = difference(before, after)
    assert not exact or after.lost == before.lost


@transports
def test_send_and_recv_pass_their_functions(layer: Session, transport: str) -> None:
    one, two = PAIRS[transport]()
    with moved(layer) as moves:
        for _ in range(N):
            one.send(b"seven..")
            two.recv(7)
    for function in ("sock_recvmsg", f"{transport}_sendmsg", f"{transport}_recvmsg"):
        assert moves.count(function, "user", transport) == N, function
        assert moves.count(function) == N, function
        assert moves.bytes(function) == N * 7, function
        assert moves.count(function, "kernel") == 0, function
    # The time of the system call includes that of the socket layer, which includes the protocol's.
    recv = moves.snapshot.total("recv").sum_ns
    assert recv > moves.sum_ns("sock_recvmsg") > moves.sum_ns(f"{transport}_recvmsg") > 0
    assert moves.snapshot.total("send").sum_ns > moves.sum_ns(f"{transport}_sendmsg") > 0


@transports
def test_close_passes_sock_close(layer: Session, transport: str) -> None:
    socks = [lunatik_socket.new("inet", transport) for _ in range(N)]
    with moved(layer) as moves:
        for sock in socks:
            sock.close()
    assert moves.count("sock_close", "user", transport) == N
    assert moves.count("sock_release", "kernel") == 0


def test_errors_of_functions(layer: Session) -> None:
    one, _two = tcp_pair()
    with moved(layer) as moves:
        for _ in range(N):
            with pytest.raises(BlockingIOError) as caught:
                one.recvmsg({"iov_len": 10}, None, "D")
            assert caught.value.errno == errno.EAGAIN
    for function in ("sock_recvmsg", "tcp_recvmsg"):
        assert moves.errors(function) == {"EAGAIN": N}
        assert moves.count(function) == N
        assert moves.bytes(function) == 0


def test_sockets_of_user_space_are_no_operations_of_the_kernel(layer: Session) -> None:
    """socket(2) and socketpair(2) call sock_create; every operation's path stays "user"."""
    with moved(layer) as moves:
        for _ in range(N):
            one, two = tcp_pair()
            one.sendmsg({}, b"x")
            two.recvmsg({"iov_len": 1})
            one.setsockopt("s", "r", 8192)
            one.getsockopt("s", "r")
            one.getpeername()
            for end in socket.socketpair():
                end.close()
            one.close()
            two.close()
    assert {s.path for s in moves.snapshot.operations} == {"user"}
    assert {s.path for s in moves.snapshot.functions} == {"user"}
    assert moves.snapshot.total("sendmsg").count == N


def test_functions_present_are_attached(
    layer: Session, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Every kernel here has most of the functions; the absent ones are reported."""
    snapshot = layer.snapshot()
    names = {f.name for f in FUNCTIONS}
    probes = {p.name: p for p in snapshot.probes if p.name in names}
    assert set(probes) == names
    absent = {name for name, probe in probes.items() if not probe.attached}
    assert absent == set(layer.failures)
    # sock_setsockopt and its like have a struct among their arguments: no fentry there on 5.10.
    with_structs = {"do_sock_getsockopt", "sock_setsockopt", "sock_common_setsockopt"}
    assert absent <= {"sock_create", *with_structs}
    assert {p.mechanism for p in probes.values()} == {layer.config.mechanism}
    note = {"mechanism": layer.config.mechanism, "attached": sorted(names - absent)}
    record_testsuite_property("functions", json.dumps(note))


def test_hundreds_of_blocked_calls(layer: Session) -> None:
    """100 in accept and 100 in recv: more than a return probe has room for by default."""
    server = listener(256)
    address = server.getsockname()
    pairs = [tcp_pair() for _ in range(100)]
    threads = [threading.Thread(target=server.accept) for _ in range(100)]
    threads += [threading.Thread(target=two.recv, args=(1,)) for _, two in pairs]
    exact = not (layer.config.mechanism == "fentry" and kernel_preempts())
    with moved(layer, exact=exact) as moves:
        for thread in threads:
            thread.start()
        wait_until(lambda: _blocked(layer, exact) == (100, 100, 100), "all to block")
        for one, _ in pairs:
            one.send(b"x")
        clients = [lunatik_socket.new() for _ in range(100)]
        for client in clients:
            client.connect(*address)
        for thread in threads:
            thread.join()
    assert moves.snapshot.total("accept").count == 100
    assert moves.snapshot.total("recv").count == 100
    counts = [moves.count(function) for function in ("tcp_recvmsg", "sock_recvmsg")]
    if exact:
        assert counts == [100, 100]
        assert layer.snapshot().lost["probe_missed"] == 0
    else:
        # A program that the kernel preempts makes it skip others on that CPU, and reports them.
        assert all(0 <= 100 - count <= sum(moves.snapshot.lost.values()) for count in counts)


def _blocked(session: Session, exact: bool) -> tuple[int, int, int]:
    """How many calls are in accept, in recv and, if its entries are exact, in tcp_recvmsg."""
    snapshot = session.snapshot()
    [function] = [p.in_progress for p in snapshot.probes if p.name == "tcp_recvmsg"]
    progress = snapshot.in_progress()
    recv = progress["recv", "user"]
    return progress["accept", "user"], recv, function if exact else recv


def test_errors_of_a_function_with_a_struct_among_its_arguments(layer: Session) -> None:
    """Its return value follows the struct, which takes two words."""
    if "sock_setsockopt" in layer.failures:
        pytest.skip(f"sock_setsockopt: {layer.failures['sock_setsockopt']}")
    sock = socket.socket()
    with moved(layer) as moves:
        for _ in range(N):
            with pytest.raises(OSError, match="Protocol not available"):
                sock.setsockopt(socket.SOL_SOCKET, 9999, 1)
    sock.close()
    if moves.count("sock_setsockopt"):  # a kernel may have put it into its caller
        assert moves.count("sock_setsockopt") == N
        assert moves.errors("sock_setsockopt") == {"ENOPROTOOPT": N}


@transports
def test_options_of_every_level_count_once(layer: Session, transport: str) -> None:
    """The functions of an operation call one another; a call counts once on any path."""
    sock = lunatik_socket.new("inet", transport)
    with socket.socket(fileno=os.dup(sock.fileno())) as same, moved(layer) as moves:
        for _ in range(N):
            same.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
            same.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)
    sock.close()
    attached = {f.name for f in FUNCTIONS} - set(layer.failures)
    if "sock_common_setsockopt" in attached:
        assert moves.count("sock_common_setsockopt", "user", transport) == N
    assert moves.count("sock_setsockopt") == 0
    # By do_sock_getsockopt where the kernel has it, and has not put it into its caller.
    reads = ("do_sock_getsockopt", "sock_common_getsockopt")
    assert sum(moves.count(name, "user", transport) for name in reads) == N
    assert sum(moves.count(name, "kernel") for name in reads) == 0


_keep: list[object] = []


def test_sockets_left_open_leave_no_entry(layer: Session) -> None:
    """They are closed after the program for a thread's end ran; no entry may come back."""

    def used() -> int:
        [entries] = [m.entries for m in layer.snapshot().maps if m.name == "functions_of_thread"]
        return entries

    before = used()
    for _ in range(N):
        assert Child(lambda: _keep.extend(udp_pair())).wait() == 0
    wait_until(lambda: used() <= before, "the ended processes' entries to go")
