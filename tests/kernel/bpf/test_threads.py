# SPDX-License-Identifier: MIT
"""How a thread is found again (bpf/in_flight_stack.h): by its slot, by hash, or not at all."""

import os
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from tests.kernel.bpf.sockets import N, tcp_pair, udp_pair
from tests.kernel.children import Child, wait_until, wait_until_blocked
from tests.kernel.counting import counted
from tracer.kernel.architecture import architecture
from tracer.kernel.maps import Map
from tracer.loading.parent import program_for
from tracer.model.config import Config, Filter
from tracer.session import Session

_SLOT_KEY = 1 << 31  # as in bpf/in_flight_stack.h


def in_a_new_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def taken_slots(session: Session) -> int:
    return sum(any(value) for _, value in session._running().maps["calls"].items())


def entries(session: Session) -> set[int]:
    keys = (key for key, _ in session._running().maps["threads"].items())
    return {int.from_bytes(key, "little") for key in keys}


def take_all_slots(maps: dict[str, Map]) -> None:
    """Leave no free slot for any thread."""
    layout = maps["threads"].layout
    for slot in range(maps["calls"].capacity):
        maps["threads"].insert(layout.key.pack(value=_SLOT_KEY | slot), layout.value.pack())


def see_no_end(session: Session) -> None:
    """Detach the programs that run when threads end."""
    loaded = session._running()
    names = [item.program for item in program_for(session.config).attachments]
    held = zip(names, loaded.descriptors[-len(names) :], strict=True)
    for descriptor in [descriptor for name, descriptor in held if name == "on_thread_end"]:
        loaded.descriptors.remove(descriptor)
        os.close(descriptor)


@pytest.mark.parametrize("with_slots", [True, False])
def test_threads_that_come_and_go_leave_no_entry(with_slots: bool) -> None:
    """Including threads that execute a program and take over the first thread's id."""
    one, two = udp_pair()
    descriptor = os.dup(one.fileno())
    os.set_inheritable(descriptor, True)
    send = f"[__import__('os').write({descriptor}, b'x') for _ in range({N})]"

    def send_and_execute() -> None:
        eval(send)
        os.execv(sys.executable, [sys.executable, "-S", "-c", send])

    own = Filter(pids=(os.getpid(),), follow_forks=True)
    config = Config(filter=own, threads=20_000, mechanism="tracepoint", operations=("send",))
    with Session(config) as session:
        if not with_slots:
            take_all_slots(session._running().maps)
        eval(send)  # this thread is known
        before, taken = entries(session), taken_slots(session)
        with counted(session) as counts:
            for _ in range(4):
                in_a_new_thread(lambda: eval(send))
            executing = Child(lambda: in_a_new_thread(send_and_execute))
            assert executing.wait() == 0
        wait_until(lambda: entries(session) == before, "the threads' entries to go")
        if not with_slots:
            assert taken_slots(session) == taken
    os.close(descriptor)
    two.close()
    assert counts.calls("send", "udp") == 6 * N
    assert not counts.lost


def test_a_thread_that_was_blocked_when_tracing_began_gets_a_slot() -> None:
    """Until it enters a call, it has an entry that the tracer made."""
    one, two = udp_pair()
    reader, writer = os.pipe()

    def work() -> None:
        while os.read(reader, 1) == b"1":
            for _ in range(N):
                one.send(b"x")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert thread.native_id is not None
    wait_until_blocked(thread.native_id, architecture().numbers["read"])
    config = Config(filter=Filter(pids=(os.getpid(),)), mechanism="tracepoint")
    with Session(config) as session:
        assert thread.native_id in entries(session)
        with counted(session) as counts:
            os.write(writer, b"1")
            for _ in range(N):
                two.recv(1)
            wait_until_blocked(thread.native_id, architecture().numbers["read"])
        assert thread.native_id not in entries(session)
        os.write(writer, b"0")
        thread.join()
    for descriptor in (reader, writer):
        os.close(descriptor)
    assert counts.calls("send", "udp") == N
    assert not counts.lost


def test_a_call_whose_return_is_missed_is_counted_as_lost_at_the_next_call() -> None:
    one, _two = udp_pair()
    config = Config(filter=Filter(pids=(os.getpid(),)), mechanism="tracepoint")
    with Session(config) as session:
        with counted(session) as counts:
            os.close(
                session._running().descriptors.pop(-2)
            )  # the descriptor that keeps the exit program attached
            for _ in range(N):
                one.send(b"x")
        assert counts.all_calls() == {}
        assert counts.lost == {"return_not_seen": N - 1}
        assert counts.in_progress == {"send": 1}


def test_a_thread_takes_over_the_slot_of_one_whose_end_was_not_seen() -> None:
    """Both have the same kernel stack, and the slot still has the old data of the first one."""
    one, two = tcp_pair()
    config = Config(filter=Filter(pids=(os.getpid(),)), mechanism="tracepoint")
    with Session(config) as session:
        see_no_end(session)
        two.getsockname()  # this thread has a slot now
        taken, threads = taken_slots(session), 0

        def is_taken_over() -> bool:
            nonlocal threads
            threads += 1
            in_a_new_thread(lambda: [one.send(b"x") for _ in range(N)])
            assert two.recvmsg({"iov_len": N}, None, "W")[1] == N
            return taken_slots(session) < taken + threads

        with counted(session) as counts:
            # The kernel decides when it reuses a stack.
            wait_until(is_taken_over, "a thread on another one's stack")
            for _ in range(5):
                is_taken_over()
    assert counts.calls("send", "tcp") == threads * N
    assert not counts.lost


def test_processes_on_one_stack_are_told_apart() -> None:
    """A process that is not followed does not count, even on the stack of one that was."""
    orders, commander = socket.socketpair()
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def send() -> None:
        for _ in range(N):
            near.send(b"x")
            far.recv(1)

    def send_in_children() -> None:
        while orders.recv(1):
            assert Child(send).wait() == 0
            orders.send(b".")

    stranger = Child(lambda: (commander.close(), send_in_children()))
    orders.close()
    own = Filter(pids=(os.getpid(),), follow_forks=True)
    config = Config(filter=own, mechanism="tracepoint", operations=("send",), label="pid")
    with Session(config) as session:
        see_no_end(session)
        taken, followed = taken_slots(session), []

        def is_taken_over() -> bool:
            child = Child(send)
            followed.append(child.pid)
            assert child.wait() == 0
            commander.send(b".")
            assert commander.recv(1) == b"."
            return taken_slots(session) < taken + len(followed)

        wait_until(is_taken_over, "a process on another one's stack")
        for _ in range(10):
            is_taken_over()
        seen = session.snapshot()
    for sock in (commander, near, far):
        sock.close()
    assert stranger.wait() == 0
    sent = Counter({s.label: s.aggregate.count for s in seen.operations if s.name == "send"})
    assert {pid: sent.pop(str(pid), 0) for pid in followed} == dict.fromkeys(followed, N)
    assert set(sent) <= {str(os.getpid())}
    assert not any(seen.lost.values())
