# SPDX-License-Identifier: MIT
"""What is counted and what is not, for each way to use a socket: the cells of docs/coverage.md.

Each way is done N times. What must hold on every kernel is asserted. What depends on the kernel's
version (which functions a call passes) is only noted. The notes of a run go into the report, as the
property `coverage`, and from there into the document (docs/generate/coverage_page.py).
"""

import array
import ctypes
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.kernel.bpf.io_uring import OP_RECV, OP_SEND, Ring
from tests.kernel.bpf.sockets import N, message_vector, tcp_pair, udp_pair
from tests.kernel.children import Child
from tracer.model.snapshot import Snapshot, difference
from tracer.session import Session

Way = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """A way to use sockets: what the operation layer counts of it, all in all (None: nothing)."""

    title: str
    way: Way
    operations: dict[str, int]
    needs: Callable[[], object] = lambda: None


def _send_and_recv() -> None:
    one, two = tcp_pair()
    for _ in range(N):
        one.send(b"x")
        two.recv(1)


def _read_and_write() -> None:
    one, two = tcp_pair()
    for _ in range(N):
        os.write(one.fileno(), b"x")
        os.read(two.fileno(), 1)


def _vectors() -> None:
    one, two = tcp_pair()
    for _ in range(N):
        os.writev(one.fileno(), [b"x", b"y"])
        os.readv(two.fileno(), [bytearray(2)])


def _preadv2() -> None:
    one, two = tcp_pair()
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(1)
    vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 1)
    for _ in range(N):
        assert libc.pwritev2(one.fileno(), vector, 1, ctypes.c_long(-1), 0) == 1
        assert libc.preadv2(two.fileno(), vector, 1, ctypes.c_long(-1), 0) == 1


def _sendfile() -> None:
    one, two = tcp_pair()
    with open("/proc/self/exe", "rb") as file:
        for _ in range(N):
            os.sendfile(one.fileno(), file.fileno(), 0, 100)
            two.recvmsg({"iov_len": 100}, None, "W")


def _splice() -> None:
    one, two = tcp_pair()
    reader, writer = os.pipe()
    for _ in range(N):
        os.write(writer, b"x")
        assert os.splice(reader, one.fileno(), 1) == 1
        assert os.splice(two.fileno(), writer, 1) == 1
        os.read(reader, 1)
    os.close(reader)
    os.close(writer)


def _io_uring() -> None:
    one, two = tcp_pair()
    buffer = ctypes.create_string_buffer(1)
    with Ring() as ring:
        for _ in range(N):
            assert ring.run(OP_SEND, one.fileno(), buffer) == 1
            assert ring.run(OP_RECV, two.fileno(), buffer) == 1


def _passed() -> None:
    one, two = tcp_pair()
    left, right = socket.socketpair()
    with left, right:
        for _ in range(N):
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno()]))]
            socket.socket.sendmsg(left, [b"."], passed)
            _, [descriptor], _, _ = socket.recv_fds(right, 1, 1)
            os.write(descriptor, b"x")
            os.dup2(reader_of_nothing(), descriptor)  # closes the socket's descriptor by dup2
            os.close(descriptor)
    assert two.recvmsg({"iov_len": N}, None, "W")[1] == N


def reader_of_nothing() -> int:
    """A descriptor that is no socket's, kept for the life of the process."""
    global _nothing  # noqa: PLW0603 - one for all calls
    if _nothing is None:
        _nothing = os.open("/dev/null", os.O_RDONLY)
    return _nothing


_nothing: int | None = None


def _shutdown_and_socketpair() -> None:
    for _ in range(N):
        left, right = socket.socketpair()
        left.shutdown(socket.SHUT_RDWR)
        os.closerange(left.fileno(), left.fileno() + 1)
        os.closerange(right.fileno(), right.fileno() + 1)
        left.detach()
        right.detach()


def _end_of_process() -> None:
    for _ in range(N):
        Child(lambda: _keep.extend(udp_pair())).wait()


_keep: list[object] = []


def _messages_at_once() -> None:
    one, two = udp_pair()
    libc = ctypes.CDLL(None, use_errno=True)
    messages, _alive = message_vector([b"a", b"bc"])
    for _ in range(N):
        assert libc.sendmmsg(one.fileno(), messages, 2, 0) == 2
        assert libc.recvmmsg(two.fileno(), messages, 2, 0, None) == 2


def _need_io_uring() -> None:
    try:
        Ring().__exit__(None, None, None)
    except OSError as error:
        if os.environ.get("LUNATIK_SOCKET_RING", "").startswith("kernel/"):
            raise
        pytest.skip(f"io_uring_setup: {error.strerror}; make test-kernels runs this")


CASES = [
    Case("send and recv (sendto, recvfrom)", _send_and_recv, {"send": N, "recv": N}),
    Case("write and read on a socket", _read_and_write, {"send": N, "recv": N}),
    Case("writev and readv on a socket", _vectors, {"send": N, "recv": N}),
    Case("sendmmsg and recvmmsg", _messages_at_once, {"sendmsg": N, "recvmsg": N}),
    Case("sendfile to a socket", _sendfile, {"send": N, "recvmsg": N}),
    Case("descriptors passed to another process", _passed, {"send": N}),
    Case("pwritev2 and preadv2 on a socket", _preadv2, {"send": 0, "recv": 0}),
    Case("splice to and from a socket", _splice, {"send": 0, "recv": 0}),
    Case("io_uring", _io_uring, {"send": 0, "recv": 0}, _need_io_uring),
    Case("socketpair, shutdown, close_range", _shutdown_and_socketpair, {"new": 0, "close": 0}),
    Case("sockets open at a process's end", _end_of_process, {"new": 2 * N, "close": 0}),
]


@pytest.fixture(params=["tracepoint", "kprobe", "fentry"])
def layer(request: pytest.FixtureRequest, sessions: Callable[[str], Session]) -> Session:
    return sessions(request.param)


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_way(
    layer: Session, case: Case, record_testsuite_property: Callable[[str, object], None]
) -> None:
    case.needs()
    before = layer.snapshot()
    case.way()
    moved = difference(before, layer.snapshot())
    counted = {name: moved.total(name).count for name in case.operations}
    assert counted == case.operations
    note = {
        "way": case.title,
        "mechanism": layer.config.mechanism,
        "operations": {name: number for name, number in counted.items() if number},
        "functions": _functions(moved),
    }
    record_testsuite_property("coverage", json.dumps(note))


def _functions(moved: Snapshot) -> list[str]:
    """The functions passed at least N times: by the way itself, not by its set-up."""
    totals: dict[str, int] = {}
    for series in moved.functions:
        if series.path == "user":
            totals[series.name] = totals.get(series.name, 0) + series.aggregate.count
    return sorted(name for name, number in totals.items() if number >= N)
