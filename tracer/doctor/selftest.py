# SPDX-License-Identifier: MIT
"""The self-test: a child makes each of the 16 operations once; each must be counted once.

The child is forked and held until the tracer follows it. Its peer is this process, which is not
traced. The child ends with os._exit and closes one socket only, so that `close` happens once.
"""

import os
import signal
import socket
from dataclasses import dataclass
from typing import NoReturn

import lunatik_socket
from tracer.errors import UnsupportedError
from tracer.model.config import Config, Filter
from tracer.model.operations import OPERATIONS
from tracer.model.snapshot import Snapshot
from tracer.session import Session

__all__ = ["Outcome", "Result", "selftest"]

_TIMEOUT_SECONDS = 10
_BYTES = {"sendmsg": 1, "recvmsg": 1, "send": 1, "recv": 1}


@dataclass(frozen=True, slots=True)
class Result:
    """One operation: the expected and the counted number of calls and bytes."""

    operation: str
    expected: int
    counted: int
    expected_bytes: int
    counted_bytes: int

    @property
    def ok(self) -> bool:
        """Whether exactly the expected calls and bytes were counted."""
        return (self.expected, self.expected_bytes) == (self.counted, self.counted_bytes)


@dataclass(frozen=True, slots=True)
class Outcome:
    """All results, and lost calls by reason."""

    results: tuple[Result, ...]
    lost: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether all counts are exact and nothing was lost."""
        return all(result.ok for result in self.results) and not self.lost


def selftest() -> Outcome:
    """Run the self-test; raises TracerError if tracing cannot start or the child fails."""
    client = lunatik_socket.new()  # made here, so that the child makes one socket only
    gate, port = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        _be_the_child(client, gate, port)
    os.close(gate[0])
    os.close(port[1])
    try:
        with Session(Config(filter=Filter(pids=(child,)), tracer_pid=os.getpid())) as session:
            _play_the_other_side(gate[1], port[0])
            _, status = os.waitpid(child, 0)
            child = 0
            snapshot = session.snapshot()
    finally:
        for descriptor in (gate[1], port[0]):
            os.close(descriptor)
        client.close()
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if status:
        raise UnsupportedError(
            "finish the self-test",
            cause=f"its process ended with wait status {status:#x}",
            hint="check that the loopback interface is up (ip link set lo up)",
        )
    return _outcome(snapshot)


def _outcome(snapshot: Snapshot) -> Outcome:
    results = []
    documented = [c for calls in lunatik_socket.EXTRA_SYSTEM_CALLS.values() for c in calls]
    for operation in OPERATIONS:
        counted = snapshot.total(operation.name)
        extra = [call for call in operation.system_calls if call.name in documented]
        results.append(
            Result(
                operation=operation.name,
                expected=1 + len(extra),
                counted=counted.count,
                expected_bytes=_BYTES.get(operation.name, 0),
                counted_bytes=counted.bytes,
            )
        )
    return Outcome(tuple(results), {reason: n for reason, n in snapshot.lost.items() if n})


def _play_the_other_side(gate: int, port: int) -> None:
    """Listen for the child's connection, connect to the child, send it two bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_TIMEOUT_SECONDS)
        os.write(gate, server.getsockname()[1].to_bytes(2))
        address = "127.0.0.1", int.from_bytes(os.read(port, 2))
        if address[1]:
            with socket.create_connection(address, _TIMEOUT_SECONDS) as peer:
                peer.sendall(b"ab")
                while peer.recv(16):
                    pass


def _be_the_child(
    client: lunatik_socket.Socket, gate: tuple[int, int], port: tuple[int, int]
) -> NoReturn:
    """Wait for the gate, make each operation once, exit without any cleanup."""
    status = 1
    try:
        os.close(gate[1])
        os.close(port[0])
        signal.alarm(_TIMEOUT_SECONDS * 2)
        if other := os.read(gate[0], 2):
            kept_open = _each_operation_once(client, int.from_bytes(other), port[1])
            status = 0 if kept_open else 1
    except Exception as error:
        os.write(2, f"lunatik-socket: self-test: {error}\n".encode())
    finally:
        os._exit(status)


def _each_operation_once(client: lunatik_socket.Socket, other: int, port: int) -> list[object]:
    """Return the objects that must stay alive: to collect them would close, and count."""
    listener = lunatik_socket.new()
    listener.setsockopt("s", "ra", 1)
    listener.bind("127.0.0.1", 0)
    listener.listen(1)
    os.write(port, listener.getsockname()[1].to_bytes(2))
    accepted = listener.accept()
    poll = lunatik_socket.poll([accepted])
    poll.select(_TIMEOUT_SECONDS * 1000)
    accepted.recv(1)
    accepted.recvmsg({"iov_len": 1})
    accepted.send(b"c")
    accepted.sendmsg({}, b"d")
    accepted.getpeername()
    accepted.getsockopt("s", "t")
    client.connect("127.0.0.1", other)
    accepted.close()
    return [listener, client, poll]
