# SPDX-License-Identifier: MIT
"""Who counts: processes, their children, names, cgroups, everyone but the tracer."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lunatik_socket
from tests.kernel.bpf.sockets import N, tcp_pair
from tests.kernel.children import Child, wait_until
from tracer.errors import UsageError
from tracer.loading import source
from tracer.model.config import Config, Filter
from tracer.session import Session


def send(number: int = N) -> None:
    one, _two = tcp_pair()
    for _ in range(number):
        one.send(b"x")


@contextmanager
def waiting_child() -> Iterator[tuple[Child, int]]:
    """A child that waits for a byte on the descriptor, sends N bytes, and ends."""
    reader, writer = os.pipe()

    def work() -> None:
        os.close(writer)
        os.read(reader, 1)
        send()
        assert Child(send).wait() == 0

    child = Child(work)
    try:
        yield child, writer
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(("follow_forks", "expected"), [(False, N), (True, 2 * N)])
def test_process(follow_forks: bool, expected: int) -> None:
    with waiting_child() as (child, go):
        chosen = Filter(pids=(child.pid,), follow_forks=follow_forks)
        with Session(Config(filter=chosen, operations=("send",))) as session:
            send()  # ours: not followed
            os.write(go, b"x")
            assert child.wait() == 0
            send()
            assert session.snapshot().total("send").count == expected


def test_process_that_ends_is_forgotten() -> None:
    """Its process id may soon be that of another process."""
    with waiting_child() as (child, go):
        chosen = Filter(pids=(child.pid,), follow_forks=True)
        with Session(Config(filter=chosen, operations=("send",))) as session:
            followed = session._running().maps["followed"]
            assert any(any(value) for _, value in followed.items())
            os.write(go, b"x")
            assert child.wait() == 0
            wait_until(
                lambda: not any(any(value) for _, value in followed.items()),
                "the child not to be followed any more",
            )


def test_pid_max_raised_while_tracing() -> None:
    """Children with ids above the maximum that held when tracing began are followed too."""
    pid_max, last_pid = Path("/proc/sys/kernel/pid_max"), Path("/proc/sys/kernel/ns_last_pid")
    old = pid_max.read_text()
    chosen = Filter(pids=(os.getpid(),), follow_forks=True)
    try:
        pid_max.write_text("32768")
        with Session(Config(filter=chosen, operations=("send",))) as session:
            pid_max.write_text("4194304")
            last_pid.write_text("4194000")
            child = Child(send)
            assert child.wait() == 0
            assert child.pid > 32768
            assert session.snapshot().total("send").count == N
    finally:
        pid_max.write_text(old)


def test_no_such_process() -> None:
    gone = Child(lambda: None)
    gone.wait()
    with pytest.raises(UsageError) as caught, Session(Config(filter=Filter(pids=(gone.pid,)))):
        pass
    assert str(caught.value) == (
        f'cannot trace the process "{gone.pid}": no such process; ps -e lists all processes'
    )
    assert caught.value.exit_status == 2


def test_a_thread_is_no_process() -> None:
    ready = threading.Event()
    thread = threading.Thread(target=ready.wait)
    thread.start()
    try:
        with (
            pytest.raises(UsageError, match=f"it is a thread of process {os.getpid()}"),
            Session(Config(filter=Filter(pids=(thread.native_id or 0,)))),
        ):
            pass
    finally:
        ready.set()
        thread.join()


def test_names_of_threads() -> None:
    code = (
        "import socket; a, b = socket.socketpair()\n"
        "def name(n):\n open('/proc/self/comm', 'w').write(n)\n"
        f"name('chosen-one'); [a.send(b'x') for _ in range({N})]\n"
        f"name('a-sixteen-bytes'); [a.send(b'x') for _ in range({N})]\n"
        f"name('chosen'); [a.send(b'x') for _ in range({N})]\n"
    )
    chosen = Filter(comms=("chosen-one", "a-sixteen-bytes"))
    with Session(Config(filter=chosen, operations=("send",))) as session:
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        assert session.snapshot().total("send").count == 2 * N


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("pool-*",), 3),
        (("*-1?",), 2),
        (("pool-[0-9]", "exactly"), 2),
        (("*ool*5bytes", "none"), 1),
        (("?",), 0),
    ],
)
def test_patterns_of_names_of_threads(patterns: tuple[str, ...], expected: int) -> None:
    def work() -> None:
        for name in ("pool-7", "pool-12", "pool-of-15bytes", "exactly", "a-19"):
            Path("/proc/self/comm").write_text(name)
            send()

    chosen = Filter(pids=(os.getpid(),), follow_forks=True, comms=patterns)
    with Session(Config(filter=chosen, operations=("send",))) as session:
        assert Child(work).wait() == 0
        assert session.snapshot().total("send").count == expected * N


def test_all_but_the_tracer() -> None:
    """The marked calls are counted among those of the whole machine; the tracer's are not."""
    with Session(Config(tracer_pid=os.getpid(), operations=("listen",))) as session:
        before = session.snapshot().total("listen").errors.get("EOPNOTSUPP", 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            for _ in range(N):
                with pytest.raises(OSError, match="Operation not supported"):
                    own.listen(1)

        def work() -> None:
            sock = lunatik_socket.new("inet", "udp")
            for _ in range(2 * N):
                with pytest.raises(OSError, match="Operation not supported"):
                    sock.listen(1)

        assert Child(work).wait() == 0
        after = session.snapshot().total("listen").errors.get("EOPNOTSUPP", 0)
    assert after - before == 2 * N


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of our own, below the root of cgroup2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    roots = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    assert roots, "cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    path = roots[0] / f"lunatik-socket-test-{os.getpid()}"
    inner = path / "inner"
    inner.mkdir(parents=True)
    yield path
    inner.rmdir()
    path.rmdir()


def _send_inside(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text("0")
    send()


def test_cgroup_and_below(cgroup: Path) -> None:
    with Session(Config(filter=Filter(cgroup=cgroup.name), operations=("send",))) as session:
        send()  # outside
        assert Child(lambda: _send_inside(cgroup)).wait() == 0
        assert Child(lambda: _send_inside(cgroup / "inner")).wait() == 0
        assert session.snapshot().total("send").count == 2 * N


def _make_anew(cgroup: Path) -> None:
    (cgroup / "inner").rmdir()
    cgroup.rmdir()
    (cgroup / "inner").mkdir(parents=True)


def test_cgroup_made_anew(cgroup: Path) -> None:
    """As at the restart of a service. Not one call is missed, though no snapshot is in between."""
    with Session(Config(filter=Filter(cgroup=cgroup.name), operations=("send",))) as session:
        assert Child(lambda: _send_inside(cgroup)).wait() == 0
        for _ in range(2):
            _make_anew(cgroup)
            assert Child(lambda: _send_inside(cgroup)).wait() == 0
            assert Child(lambda: _send_inside(cgroup / "inner")).wait() == 0
        send()  # outside
        assert session.snapshot().total("send").count == 5 * N


def test_another_cgroup_made_anew_does_not_count(cgroup: Path) -> None:
    name = str(Path(cgroup.name) / "inner")
    with Session(Config(filter=Filter(cgroup=name), operations=("send",))) as session:
        other = cgroup.with_name(cgroup.name + "-other")
        (other / "inner").mkdir(parents=True)
        try:
            assert Child(lambda: _send_inside(other / "inner")).wait() == 0
        finally:
            (other / "inner").rmdir()
            other.rmdir()
        assert session.snapshot().total("send").count == 0


def test_cgroup_made_anew_in_a_cgroup_namespace(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the path that the kernel has, the new cgroup counts from the next snapshot on."""
    monkeypatch.setattr(source, "path_in_kernel", lambda _: None)
    with Session(Config(filter=Filter(cgroup=cgroup.name), operations=("send",))) as session:
        _make_anew(cgroup)
        session.snapshot()
        assert Child(lambda: _send_inside(cgroup)).wait() == 0
        assert session.snapshot().total("send").count == N


def test_a_process_that_enters_a_traced_cgroup_has_lost_no_call(cgroup: Path) -> None:
    """Its write(2) to cgroup.procs returns in the traced cgroup, but was not on a socket."""
    with Session(Config(filter=Filter(cgroup=cgroup.name), operations=("send",))) as session:
        for _ in range(N):
            assert Child(lambda: _send_inside(cgroup)).wait() == 0
        snapshot = session.snapshot()
    assert snapshot.total("send").count == N * N
    assert not any(snapshot.lost.values())


def test_a_process_that_takes_a_traced_name_has_lost_no_call() -> None:
    """Its write(2) to /proc/self/comm returns under the traced name, but was not on a socket."""

    def work() -> None:
        Path("/proc/self/comm").write_text("taken name")
        send()

    with Session(Config(filter=Filter(comms=("taken name",)), operations=("send",))) as session:
        for _ in range(N):
            assert Child(work).wait() == 0
        snapshot = session.snapshot()
    assert snapshot.total("send").count == N * N
    assert not any(snapshot.lost.values())


def test_no_such_cgroup() -> None:
    with (
        pytest.raises(UsageError, match=r'^cannot find the cgroup "nowhere": no such directory'),
        Session(Config(filter=Filter(cgroup="nowhere"))),
    ):
        pass


def test_kinds_of_filters_must_all_hold() -> None:
    chosen = Filter(pids=(os.getpid(),), follow_forks=True, comms=("of-two",))

    def work() -> None:
        send()
        Path("/proc/self/comm").write_text("of-two")
        send()

    with Session(Config(filter=chosen, operations=("send",))) as session:
        assert Child(work).wait() == 0
        assert session.snapshot().total("send").count == N


def test_label_comm() -> None:
    def work() -> None:
        Path("/proc/self/comm").write_text("labelled")
        send()

    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True), label="comm", operations=("send",)
    )
    with Session(config) as session:
        assert Child(work).wait() == 0
        send()
        labels = _sends_by_label(session)
    ours = Path("/proc/self/comm").read_text().strip()
    assert labels == {"labelled": N, ours: N}


def test_label_pid_beyond_the_cap_is_other() -> None:
    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        label="pid",
        label_values=4,
        operations=("new", "close"),
        mechanism="tracepoint",
    )
    children = []
    with Session(config) as session:
        for _ in range(8):
            children.append(Child(lambda: os.close(socket.socket().detach())))
            assert children[-1].wait() == 0
        snapshot = session.snapshot()
    named = {s.label for s in snapshot.operations} - {"other"}
    other = [s for s in snapshot.operations if s.label == "other"]
    assert len(named) == 4
    assert {int(label or 0) for label in named} <= {os.getpid(), *(c.pid for c in children)}
    # None is missing: a new and a close in each of eight children.
    assert snapshot.total("new").count == snapshot.total("close").count == 8
    assert snapshot.other_label == sum(s.aggregate.count for s in other) > 0
    assert not any(snapshot.lost.values())


def test_label_values_and_not_cells_are_limited() -> None:
    """300 processes with six cells each: more cells than values, and none under "other"."""
    chosen = Filter(pids=(os.getpid(),), follow_forks=True)

    def work() -> None:
        one, two = socket.socketpair()
        one.send(b"x")
        two.recv(1)
        one.getsockname()
        with socket.socket() as sock:
            sock.getsockname()

    with Session(Config(filter=chosen, label="pid", mechanism="tracepoint")) as session:
        pids = set()
        for _ in range(300):
            child = Child(work)
            assert child.wait() == 0
            pids.add(str(child.pid))
        snapshot = session.snapshot()
    assert {s.label for s in snapshot.operations} - {str(os.getpid())} == pids
    assert snapshot.other_label == 0
    assert not any(snapshot.lost.values())


def test_labels_with_the_same_text_are_one_series_and_others_are_not() -> None:
    names = (b"\xff", b"\xfe", b"other", b"more", b"a", b"b")
    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        label="comm",
        label_values=4,  # the last two of the names find no room
        operations=("send",),
    )

    def work() -> None:
        one, _two = socket.socketpair()
        for name in names:
            Path("/proc/self/comm").write_bytes(name)
            for _ in range(N):
                one.send(b"x")

    with Session(config) as session:
        assert Child(work).wait() == 0
        snapshot = session.snapshot()
    counts = [(s.label, s.aggregate.count) for s in snapshot.operations]
    assert sorted(counts, key=str) == [
        ("\\xfe", N),
        ("\\xff", N),
        ("more", N),
        ("other", 3 * N),
    ]
    assert snapshot.other_label == 2 * N


def test_label_cgroup(cgroup: Path) -> None:
    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True), label="cgroup", operations=("send",)
    )
    with Session(config) as session:
        assert Child(lambda: _send_inside(cgroup)).wait() == 0
        assert _sends_by_label(session) == {f"/{cgroup.name}": N}


def _calls_by_port(session: Session) -> dict[str, dict[str | None, int]]:
    """Calls by operation and port, without those on a socket that has none."""
    result: dict[str, dict[str | None, int]] = {}
    for series in session.snapshot().operations:
        if series.label != "0":
            ports = result.setdefault(series.name, {})
            ports[series.label] = ports.get(series.label, 0) + series.aggregate.count
    return result


_BY_PORT = Config(
    filter=Filter(pids=(os.getpid(),)),
    label="port",
    operations=("bind", "listen", "accept", "connect", "send", "recv", "getpeername", "close"),
)


def _bound_pair(service_above: bool) -> tuple[lunatik_socket.Socket, lunatik_socket.Socket]:
    """A listener and a client, each bound to a port, either of them to the higher one."""
    one, two = (lunatik_socket.new() for _ in range(2))
    one.bind("127.0.0.1", 0)
    two.bind("127.0.0.1", 0)
    lower, higher = sorted((one, two), key=lambda sock: sock.getsockname()[1])
    server, client = (higher, lower) if service_above else (lower, higher)
    server.listen(1)
    return server, client


@pytest.mark.parametrize("service_above", [False, True])
@pytest.mark.parametrize("older", ["nothing", "listener", "connection"])
def test_label_port_is_that_of_the_service(service_above: bool, older: str) -> None:
    """On both sides, also for sockets that are older than the trace."""
    server, client = _bound_pair(service_above)
    address = server.getsockname()
    port = str(address[1])

    def connected() -> lunatik_socket.Socket:
        client.connect(*address)
        return server.accept()

    accepted = connected() if older == "connection" else None
    if older == "nothing":
        server.close()
        server = lunatik_socket.new()
    with Session(_BY_PORT) as session:
        if older == "nothing":
            server.bind(*address)
            server.listen(1)
        accepted = accepted or connected()
        for _ in range(N):
            client.send(b"x")
            accepted.send(b"x")
            accepted.recv(1)
        for sock in (client, accepted, server):
            sock.close()
        calls = _calls_by_port(session)
    assert calls["send"] == {port: 2 * N}
    assert calls["recv"] == {port: N}
    assert calls["close"] == {port: 3}
    if older != "connection":
        assert calls["connect"] == {port: 1}
        assert calls["accept"] == {port: 1}
    if older == "nothing":
        assert calls["bind"] == calls["listen"] == {port: 1}


def test_label_port_of_a_refused_connect() -> None:
    with socket.socket() as bound, Session(_BY_PORT) as session:
        bound.bind(("127.0.0.1", 0))
        for _ in range(N):
            with socket.socket() as client, pytest.raises(ConnectionRefusedError):
                client.connect(bound.getsockname())
        assert _calls_by_port(session)["connect"] == {str(bound.getsockname()[1]): N}


def test_label_port_of_a_reset_socket_stays() -> None:
    server, client = _bound_pair(service_above=True)
    port = str(server.getsockname()[1])
    with Session(_BY_PORT) as session:
        client.connect(*server.getsockname())
        accepted = server.accept()
        # Closed with unread data: a reset.
        client.send(b"x")
        accepted.close()
        for _ in range(N):
            for call in (lambda: client.send(b"x"), client.getpeername):
                with contextlib.suppress(OSError):
                    call()
        client.close()
        calls = _calls_by_port(session)
    assert calls["getpeername"] == {port: N}
    assert calls["send"] == {port: N + 1}
    assert calls["close"] == {port: 2}


def test_label_port_of_a_socket_that_was_reset_before_its_first_traced_call() -> None:
    """A reset takes the local port, by which an accepted socket is told from a connected one."""
    server, client = _bound_pair(service_above=True)
    port = str(server.getsockname()[1])
    client.connect(*server.getsockname())
    accepted = server.accept()
    accepted.send(b"x")
    client.close()  # with unread data: a reset
    with Session(_BY_PORT) as session:
        for _ in range(N):
            with contextlib.suppress(OSError):
                accepted.getpeername()
        accepted.close()
        calls = _calls_by_port(session)
    assert calls["getpeername"] == {port: N}
    assert calls["close"] == {port: 1}


def test_label_port_of_datagram_sockets() -> None:
    """The bound port; the peer's if it is connected."""
    server, client = (lunatik_socket.new("inet", "udp") for _ in range(2))
    with Session(_BY_PORT) as session:
        server.bind("127.0.0.1", 0)
        address = server.getsockname()
        client.connect(*address)
        for _ in range(N):
            client.send(b"x")
            server.recv(1)
        calls = _calls_by_port(session)
    port = str(address[1])
    assert calls == {
        "bind": {port: 1},
        "connect": {port: 1},
        "send": {port: N},
        "recv": {port: N},
    }


def _sends_by_label(session: Session) -> dict[str | None, int]:
    result: dict[str | None, int] = {}
    for series in session.snapshot().operations:
        if series.name == "send":
            result[series.label] = result.get(series.label, 0) + series.aggregate.count
    return result


def test_full_map_of_threads_is_counted_as_lost() -> None:
    """Room for two threads, calls from five: calls that are not counted are counted as lost."""
    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        threads=2,
        operations=("new", "connect", "getpeername"),
    )
    reader, writer = os.pipe()

    def work() -> None:
        os.close(writer)
        sock = lunatik_socket.new("inet", "udp")
        sock.connect("127.0.0.1", 9)
        for _ in range(N):
            sock.getpeername()
        os.read(reader, 1)  # until the writer is closed: the thread stays

    with Session(config) as session:
        children = [Child(work) for _ in range(5)]
        wait_until(lambda: _seen(session) == 5 * (N + 2), "all calls to be counted or lost")
        counted = session.snapshot().total("getpeername").count
        os.close(writer)
        assert [child.wait() for child in children] == [0] * 5
    os.close(reader)
    assert counted in (N, 2 * N)  # this process may have one of the two entries


def _seen(session: Session) -> int:
    snapshot = session.snapshot()
    return sum(s.aggregate.count for s in snapshot.operations) + snapshot.lost["start_map_full"]
