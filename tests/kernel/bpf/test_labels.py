# SPDX-License-Identifier: MIT
"""What the numbers are split by: the thread's name, the process, the cgroup."""

import os
import socket
from pathlib import Path

import pytest

from tests.kernel.bpf.sockets import N, send, udp_pair
from tests.kernel.children import Child
from tests.kernel.mechanisms import require
from tracer.kernel.btf import KernelTypes
from tracer.model.config import Config, Filter
from tracer.session import Session


def test_label_comm() -> None:
    def work() -> None:
        Path("/proc/self/comm").write_text("labelled")
        send()

    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        label="comm",
        operations=("send",),
        mechanism="tracepoint",
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
    assert not any(snapshot.lost.values())
    with KernelTypes() as types:
        cells_on_demand = types.function_id("bpf_mem_alloc_init") is not None
    if cells_on_demand:
        assert {s.label for s in snapshot.operations} - {str(os.getpid())} == pids
        assert snapshot.other_label == 0
    else:
        # Before 6.1 there is room for one cell of each value and CPU: the rest is "other", and no
        # call is missing.
        other = sum(s.aggregate.count for s in snapshot.operations if s.label == "other")
        assert snapshot.other_label == other > 0
        assert snapshot.total("recv").count == 300


def test_labels_with_the_same_text_are_one_series_and_others_are_not() -> None:
    names = (b"\xff", b"\xfe", b"other", b"more", b"a", b"b")
    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        label="comm",
        label_values=4,  # the last two of the names find no room
        operations=("send",),
        mechanism="tracepoint",
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
    def work() -> None:
        (cgroup / "cgroup.procs").write_text("0")
        send()

    config = Config(
        filter=Filter(pids=(os.getpid(),), follow_forks=True),
        label="cgroup",
        operations=("send",),
        mechanism="tracepoint",
    )
    with Session(config) as session:
        assert Child(work).wait() == 0
        assert _sends_by_label(session) == {f"/{cgroup.name}": N}


def _sends_by_label(session: Session) -> dict[str | None, int]:
    result: dict[str | None, int] = {}
    for series in session.snapshot().operations:
        if series.name == "send":
            result[series.label] = result.get(series.label, 0) + series.aggregate.count
    return result


@pytest.mark.parametrize(
    ("mechanism", "label"),
    [("fentry", "port"), ("fentry", "cgroup"), ("kprobe", "comm"), ("kprobe", "pid")],
)
def test_labels_and_filters_of_functions(mechanism: str, label: str, cgroup: Path) -> None:
    """The same as of the operations, with all the filters at once."""
    require(mechanism)

    def work() -> None:
        send()  # under another name
        Path("/proc/self/comm").write_text("labelled")
        one, _two = udp_pair()
        for _ in range(N):
            one.send(b"x")
        send()
        (cgroup / "cgroup.procs").write_text("0")
        for _ in range(N):
            one.send(b"x")
        os.write(writer, str(one.getpeername()[1]).encode())

    reader, writer = os.pipe()
    chosen = Filter(
        pids=(os.getpid(),), follow_forks=True, comms=("label*", "other"), cgroup=cgroup.name
    )
    config = Config(filter=chosen, label=label, operations=("send",), mechanism=mechanism)
    with Session(config) as session:
        child = Child(work)
        assert child.wait() == 0
        snapshot = session.snapshot()
    expected = {
        "comm": "labelled",
        "pid": str(child.pid),
        "cgroup": f"/{cgroup.name}",
        "port": os.read(reader, 16).decode(),
    }
    for descriptor in (reader, writer):
        os.close(descriptor)
    found = [
        (s.name, s.transport, s.label, s.aggregate.count, s.aggregate.bytes)
        for s in (*snapshot.operations, *snapshot.functions)
        if s.name in ("send", "tcp_sendmsg", "udp_sendmsg")
    ]
    assert found == [
        ("send", "udp", expected[label], N, N),
        ("udp_sendmsg", "udp", expected[label], N, N),
    ]
    mechanisms = {probe.mechanism for probe in snapshot.probes}
    # By kprobe_multi, the write to cgroup.procs cannot be told from a call on a socket at its end.
    assert sum(snapshot.lost.values()) <= ("kprobe_multi" in mechanisms)
