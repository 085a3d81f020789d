# SPDX-License-Identifier: MIT
"""Who counts: processes, their children, names, cgroups, everyone but the tracer."""

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
from tests.kernel.bpf.sockets import N, send
from tests.kernel.children import Child, wait_until
from tracer.errors import UsageError
from tracer.loading import source
from tracer.model.config import Config, Filter
from tracer.session import Session


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
        with Session(
            Config(filter=chosen, operations=("send",), mechanism="tracepoint")
        ) as session:
            send()  # ours: not followed
            os.write(go, b"x")
            assert child.wait() == 0
            send()
            assert session.snapshot().total("send").count == expected


def test_process_that_ends_is_forgotten() -> None:
    """Its process id may soon be that of another process."""
    with waiting_child() as (child, go):
        chosen = Filter(pids=(child.pid,), follow_forks=True)
        with Session(
            Config(filter=chosen, operations=("send",), mechanism="tracepoint")
        ) as session:
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
        with Session(
            Config(filter=chosen, operations=("send",), mechanism="tracepoint")
        ) as session:
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
    with Session(Config(filter=chosen, operations=("send",), mechanism="tracepoint")) as session:
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
    ids=["start", "end", "pattern and name", "middle", "none"],
)
def test_patterns_of_names_of_threads(patterns: tuple[str, ...], expected: int) -> None:
    def work() -> None:
        for name in ("pool-7", "pool-12", "pool-of-15bytes", "exactly", "a-19"):
            Path("/proc/self/comm").write_text(name)
            send()

    chosen = Filter(pids=(os.getpid(),), follow_forks=True, comms=patterns)
    with Session(Config(filter=chosen, operations=("send",), mechanism="tracepoint")) as session:
        assert Child(work).wait() == 0
        assert session.snapshot().total("send").count == expected * N


def test_all_but_the_tracer() -> None:
    """The marked calls are counted among those of the whole machine; the tracer's are not."""
    with Session(
        Config(tracer_pid=os.getpid(), operations=("listen",), mechanism="tracepoint")
    ) as session:
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


def _send_inside(cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text("0")
    send()


def test_cgroup_and_below(cgroup: Path) -> None:
    with Session(
        Config(filter=Filter(cgroup=cgroup.name), operations=("send",), mechanism="tracepoint")
    ) as session:
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
    with Session(
        Config(filter=Filter(cgroup=cgroup.name), operations=("send",), mechanism="tracepoint")
    ) as session:
        assert Child(lambda: _send_inside(cgroup)).wait() == 0
        for _ in range(2):
            _make_anew(cgroup)
            assert Child(lambda: _send_inside(cgroup)).wait() == 0
            assert Child(lambda: _send_inside(cgroup / "inner")).wait() == 0
        send()  # outside
        assert session.snapshot().total("send").count == 5 * N


def test_another_cgroup_made_anew_does_not_count(cgroup: Path) -> None:
    name = str(Path(cgroup.name) / "inner")
    with Session(
        Config(filter=Filter(cgroup=name), operations=("send",), mechanism="tracepoint")
    ) as session:
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
    with Session(
        Config(filter=Filter(cgroup=cgroup.name), operations=("send",), mechanism="tracepoint")
    ) as session:
        _make_anew(cgroup)
        session.snapshot()
        assert Child(lambda: _send_inside(cgroup)).wait() == 0
        assert session.snapshot().total("send").count == N


def test_a_process_that_enters_a_traced_cgroup_has_lost_no_call(cgroup: Path) -> None:
    """Its write(2) to cgroup.procs returns in the traced cgroup, but was not on a socket."""
    with Session(
        Config(filter=Filter(cgroup=cgroup.name), operations=("send",), mechanism="tracepoint")
    ) as session:
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

    with Session(
        Config(filter=Filter(comms=("taken name",)), operations=("send",), mechanism="tracepoint")
    ) as session:
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

    with Session(Config(filter=chosen, operations=("send",), mechanism="tracepoint")) as session:
        assert Child(work).wait() == 0
        assert session.snapshot().total("send").count == N


def test_full_map_of_threads_is_counted_as_lost() -> None:
    """Room for two threads, calls from five: calls that are not counted are counted as lost."""
    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        threads=2,
        operations=("new", "connect", "getpeername"),
        mechanism="tracepoint",
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
