# SPDX-License-Identifier: MIT
"""Signals, threads, forks, exec, death inside a call, descriptors passed to another process: each
has a defined result (docs/coverage.md, "At the edge"), which is tested here.
"""

import array
import ctypes
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import lunatik_socket
from tests.kernel.bpf.sockets import N, listener, message_vector, tcp_pair, udp_pair
from tests.kernel.children import Child, wait_until, wait_until_blocked
from tests.kernel.counting import counted
from tracer.kernel import trial_programs
from tracer.kernel.architecture import architecture
from tracer.model.config import Config, Filter
from tracer.model.histogram import UPPER_BOUNDS_SECONDS
from tracer.model.snapshot import CallAtStart
from tracer.session import Session

NUMBERS = architecture().numbers  # to see from /proc that a thread is blocked in a call


def test_restarted_call_counts_for_each_entry(session: Session) -> None:
    """A handler with SA_RESTART: the kernel calls again, and both calls are real."""
    one, two = tcp_pair()
    before = _interrupted(session)
    with counted(session) as counts:

        def work() -> None:
            # A handler of Python's would make recv fail; one in C with SA_RESTART lets it go on.
            libc = ctypes.CDLL(None, use_errno=True)
            handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: None)
            libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
            libc.signal(signal.SIGUSR1, ctypes.cast(handler, ctypes.c_void_p))  # SA_RESTART
            buffer = ctypes.create_string_buffer(8)
            assert libc.recv(two.fileno(), buffer, 8, 0) == 1

        child = Child(work)
        wait_until_blocked(child.pid, NUMBERS["recvfrom"])
        os.kill(child.pid, signal.SIGUSR1)
        wait_until(lambda: _interrupted(session) > before, "the interrupted call to return")
        wait_until_blocked(child.pid, NUMBERS["recvfrom"])
        one.send(b"x")
        assert child.wait() == 0
    assert counts.calls("recv", "tcp") == 2
    assert counts.errors("recv") == {"ERESTARTSYS": 1}
    assert counts.bytes("recv") == 1
    assert not counts.in_progress


def _interrupted(session: Session) -> int:
    return session.snapshot().total("recv").errors.get("ERESTARTSYS", 0)


def test_death_inside_a_call_counts_it_as_broken_off(session: Session) -> None:
    _one, two = tcp_pair()
    with counted(session) as counts:
        child = Child(lambda: two.recv(10))
        wait_until_blocked(child.pid, NUMBERS["recvfrom"])
        assert session.snapshot().in_progress()["recv", "user"] == 1
        assert child.kill() == 128 + signal.SIGKILL
    assert counts.calls("recv", "tcp") == 1
    assert counts.errors("recv") == {"ERESTARTSYS": 1}
    assert not counts.in_progress
    assert not counts.lost


def test_threads_count_each_for_itself(session: Session) -> None:
    pairs = [tcp_pair() for _ in range(8)]

    def talk(one: lunatik_socket.Socket, two: lunatik_socket.Socket) -> None:
        for _ in range(N):
            one.send(b"abc")
            two.recv(3)

    threads = [threading.Thread(target=talk, args=pair) for pair in pairs]
    with counted(session) as counts:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counts.all_calls() == {"send": 8 * N, "recv": 8 * N}
    assert counts.bytes("recv", "tcp") == 8 * N * 3
    assert not counts.lost


def test_forked_children_are_followed(session: Session) -> None:
    one, two = tcp_pair()

    def grandchild() -> None:
        for _ in range(N):
            one.send(b"x")

    with counted(session) as counts:
        assert Child(lambda: Child(grandchild).wait()).wait() == 0
        assert two.recvmsg({"iov_len": N}, None, "W")[1] == N
    assert counts.calls("send", "tcp") == N


def test_exec_keeps_being_followed(session: Session) -> None:
    one, two = tcp_pair()
    code = f"import os; [os.write({one.fileno()}, b'xy') for _ in range({N})]"
    with counted(session) as counts:
        subprocess.run(
            [sys.executable, "-c", code], pass_fds=[one.fileno()], check=True, timeout=30
        )
    assert counts.calls("send", "tcp") == N
    assert counts.bytes("send", "tcp") == 2 * N
    assert two.recvmsg({"iov_len": 2 * N}, None, "W")[1] == 2 * N


def test_exec_by_a_thread_that_is_not_the_first(session: Session) -> None:
    """The kernel gives that thread the first one's id; nothing may be left under the old one."""
    one, two = tcp_pair()
    os.set_inheritable(one.fileno(), True)
    inner = f"import os; [os.write({one.fileno()}, b'x') for _ in range({N})]"
    outer = (
        "import os, sys, threading\n"
        f"program = sys.executable, ['python', '-c', {inner!r}]\n"
        "threading.Thread(target=os.execv, args=program).start()\n"
        "threading.Event().wait(30)"
    )
    before = _threads_known(session)
    with counted(session) as counts:
        subprocess.run(
            [sys.executable, "-c", outer], pass_fds=[one.fileno()], check=True, timeout=30
        )
    assert counts.calls("send", "tcp") == N
    assert two.recvmsg({"iov_len": N}, None, "W")[1] == N
    assert not counts.lost
    wait_until(lambda: _threads_known(session) == before, "the ended threads' entries to go")


def _threads_known(session: Session) -> int:
    [known] = [m.entries for m in session.snapshot().maps if m.name == "threads"]
    return known


def test_threads_that_ended_leave_no_entry(session: Session) -> None:
    one, two = tcp_pair()

    def work() -> None:
        one.send(b"x")
        two.recv(1)

    before = _threads_known(session)
    for _ in range(N):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    # The kernel tells of a thread's end shortly after join() returns.
    wait_until(lambda: _threads_known(session) == before, "the ended threads' entries to go")


def test_duplicated_inherited_and_passed_descriptors(session: Session) -> None:
    one, two = tcp_pair()
    left, right = socket.socketpair()
    with left, right:
        duplicate = os.dup(one.fileno())
        with counted(session) as counts:
            os.write(duplicate, b"a")  # duplicated
            assert Child(lambda: one.send(b"bc")).wait() == 0  # inherited
            left.sendmsg(
                [b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [duplicate]))]
            )
            os.close(duplicate)
            _, descriptors, _, _ = socket.recv_fds(right, 1, 1)
            os.write(descriptors[0], b"def")  # passed
            os.close(descriptors[0])
        assert two.recv(10)[1] == 6
    assert counts.calls("send", "tcp") == 3
    assert counts.bytes("send", "tcp") == 6
    assert counts.calls("close", "tcp") == 2
    assert counts.calls("sendmsg", "unix") == counts.calls("recvmsg", "unix") == 1


def test_files_and_pipes_do_not_count(session: Session) -> None:
    reader, writer = os.pipe()
    with open("/dev/zero", "rb", buffering=0) as file, counted(session) as counts:
        for _ in range(N):
            file.read(10)
            os.write(writer, b"x")
            os.read(reader, 1)
            os.close(os.dup(reader))
            os.close(os.open("/dev/null", os.O_RDONLY))
    os.close(reader)
    os.close(writer)
    assert counts.all_calls() == {}
    assert not counts.lost


def test_read_write_and_vectors_on_sockets(session: Session) -> None:
    for transport, (one, two) in (("tcp", tcp_pair()), ("udp", udp_pair())):
        with counted(session) as counts:
            for _ in range(N):
                os.write(one.fileno(), b"abc")
                assert os.read(two.fileno(), 3) == b"abc"
                os.writev(one.fileno(), [b"de", b"fgh"])
                assert os.readv(two.fileno(), [bytearray(4), bytearray(4)]) == 5
        assert counts.all_calls() == {"send": 2 * N, "recv": 2 * N}
        assert counts.bytes("send", transport) == counts.bytes("recv", transport) == 8 * N


def test_sendfile_to_a_socket(session: Session) -> None:
    one, two = tcp_pair()
    with open("/proc/self/exe", "rb") as file, counted(session) as counts:
        for _ in range(N):
            assert os.sendfile(one.fileno(), file.fileno(), 0, 1009) == 1009
            assert two.recvmsg({"iov_len": 1009}, None, "W")[1] == 1009
    assert counts.calls("send", "tcp") == N
    assert counts.bytes("send", "tcp") == N * 1009


def test_several_messages_at_once(session: Session) -> None:
    """sendmmsg and recvmmsg: one call each, with the bytes of all their messages."""
    one, two = udp_pair()
    libc = ctypes.CDLL(None, use_errno=True)
    messages, _alive = message_vector([b"a", b"bc", b"def", b"", b"ghijk"])
    with counted(session) as counts:
        for _ in range(N):
            assert libc.sendmmsg(one.fileno(), messages, 5, 0) == 5
            assert libc.recvmmsg(two.fileno(), messages, 5, 0, None) == 5
    assert counts.calls("sendmsg", "udp") == counts.calls("recvmsg", "udp") == N
    assert counts.bytes("sendmsg", "udp") == counts.bytes("recvmsg", "udp") == N * 11


def test_blocked_call_lasts_as_long_as_it_blocked(session: Session) -> None:
    """50 ms without data: the call is in the slots of 50 ms and up, and nowhere below."""
    one, two = tcp_pair()
    timeout_seconds = 0.05
    with counted(session) as counts:

        def work() -> None:
            raw = socket.socket(fileno=os.dup(two.fileno()))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_seconds))
            raw.setblocking(True)
            try:
                raw.recv(1)
            except BlockingIOError:
                return
            raise AssertionError("something came")

        assert Child(work).wait() == 0
    [(slot, number)] = [item for item in counts.slots["recv", "tcp"].items() if item[1]]
    assert number == 1
    assert UPPER_BOUNDS_SECONDS[slot] >= timeout_seconds
    assert counts.sum_ns["recv", "tcp"] >= 0.05e9
    assert UPPER_BOUNDS_SECONDS[slot - 1] < counts.sum_ns["recv", "tcp"] / 1e9
    assert counts.sum_ns["recv", "tcp"] / 1e9 <= UPPER_BOUNDS_SECONDS[slot]
    assert counts.errors("recv") == {"EAGAIN": 1}
    one.close()


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return whole.to_bytes(8, "little") + int((seconds - whole) * 1e6).to_bytes(8, "little")


def test_call_already_blocked_when_tracing_starts() -> None:
    """It cannot be counted, because its start is unknown. It is listed, and it is not lost."""
    one, two = tcp_pair()
    reader, writer = os.pipe()
    on_socket = Child(lambda: [two.recv(1) for _ in range(N)])
    on_pipe = Child(lambda: [os.read(reader, 1) for _ in range(2)])
    wait_until_blocked(on_socket.pid, NUMBERS["recvfrom"])
    wait_until_blocked(on_pipe.pid, NUMBERS["read"])
    name = Path(f"/proc/{on_socket.pid}/comm").read_text().strip()
    call = CallAtStart(on_socket.pid, on_socket.pid, name, "recv", two.fileno())
    chosen = Filter(pids=(on_socket.pid, on_pipe.pid))
    with Session(Config(filter=chosen, operations=("recv",))) as session:
        assert session.snapshot().in_progress()["recv", "user"] == 0
        one.send(bytes(N))
        os.write(writer, b"xy")
        assert on_socket.wait() == on_pipe.wait() == 0
        snapshot = session.snapshot()
    os.close(reader)
    os.close(writer)
    assert snapshot.total("recv").count == N - 1
    assert not any(snapshot.lost.values())
    assert snapshot.in_flight_at_start == (call,)  # the socket's, and not the pipe's


def test_call_already_blocked_of_a_thread_with_another_name() -> None:
    """With a filter by name, the list has only the threads that the filter takes."""
    one, two = tcp_pair()

    def receive() -> None:
        Path("/proc/self/comm").write_text("receiver")
        two.recv(1)

    child = Child(receive)
    wait_until_blocked(child.pid, NUMBERS["recvfrom"])
    listed = {}
    for name in ("receiver", "another"):
        with Session(Config(filter=Filter(comms=(name,)), operations=("recv",))) as session:
            listed[name] = [call.tid for call in session.snapshot().in_flight_at_start]
    one.send(b"x")
    assert child.wait() == 0
    assert listed == {"receiver": [child.pid], "another": []}


def test_many_threads_blocked_at_once(session: Session) -> None:
    server = listener(256)
    address = server.getsockname()
    threads = [threading.Thread(target=server.accept) for _ in range(100)]
    with counted(session) as counts:
        for thread in threads:
            thread.start()
        wait_until(
            lambda: session.snapshot().in_progress()["accept", "user"] == 100, "all to block"
        )
        clients = [lunatik_socket.new() for _ in threads]
        for client in clients:
            client.connect(*address)
        for thread in threads:
            thread.join()
    assert counts.calls("accept", "tcp") == 100
    assert counts.calls("connect", "tcp") == 100
    assert not counts.lost
    assert not counts.in_progress


def test_unix_and_other_transports(session: Session) -> None:
    left, right = socket.socketpair()
    with left, right, counted(session) as counts:
        for _ in range(N):
            left.send(b"x")
            right.recv(1)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.getsockname()
    assert counts.calls("send", "unix") == counts.calls("recv", "unix") == N
    assert counts.calls("new", "other") == counts.calls("close", "other") == 1


def test_ipv6(session: Session) -> None:
    """The transport is the same. The API has no IPv6 yet, but other programs use it."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, counted(session) as counts:
        sock.bind(("::1", 0))
        for _ in range(N):
            sock.sendto(b"abc", sock.getsockname())
    assert counts.calls("send", "udp") == N
    assert counts.bytes("send", "udp") == 3 * N


def test_the_name_of_a_unix_socket_is_no_socket(session: Session, tmp_path: Path) -> None:
    """An O_PATH descriptor of the name has a socket's mode, but no socket behind it."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "name"))
        with counted(session) as counts:
            for _ in range(N):
                os.close(os.open(tmp_path / "name", os.O_PATH))
    assert counts.all_calls() == {}


def test_raw_sockets_are_other_whatever_their_protocol(session: Session) -> None:
    """Nor does the kernel side store them: the next raw socket is not a TCP socket either."""
    with counted(session) as counts:
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP):
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
                sock.getsockname()
    assert counts.calls("new", "other") == counts.calls("close", "other") == 3
    assert counts.calls("getsockname", "other") == counts.calls("getsockname")


def test_the_upper_halves_of_the_arguments_of_socket_are_ignored(session: Session) -> None:
    """The kernel takes them as ints: only the lower halves count, and all of their bits."""
    libc = ctypes.CDLL(None, use_errno=True)

    def create(*arguments: int) -> int:
        number = ctypes.c_long(NUMBERS["socket"])
        return int(libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments)))

    upper = 1 << 32
    with counted(session) as counts:
        tcp = [create(socket.AF_INET, socket.SOCK_STREAM, 3 * upper) for _ in range(N)]
        udp = [
            create(5 * upper | socket.AF_INET, 7 * upper | socket.SOCK_DGRAM, upper | 17)
            for _ in range(N)
        ]
        # Families and protocols that do not exist, though their lowest 16 bits do.
        assert create(1 << 16 | socket.AF_INET, socket.SOCK_STREAM, 0) == -1
        assert create(socket.AF_INET, socket.SOCK_STREAM, 1 << 16 | socket.IPPROTO_TCP) == -1
    for descriptor in tcp + udp:
        os.close(descriptor)
    assert counts.calls("new", "tcp") == N
    assert counts.calls("new", "udp") == N
    assert counts.calls("new", "other") == 2
    assert counts.errors("new") == {"EAFNOSUPPORT": 1, "EINVAL": 1}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="how 32-bit calls are made on x86-64")
def test_calls_of_32_bit_programs_are_not_taken_for_others(session: Session) -> None:
    """Number 41 is dup there, and socket for 64-bit programs; 6 is close, and lstat."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # push rbx; mov eax, esi; mov ebx, edi; int 0x80; pop rbx; ret
    code.write(bytes.fromhex("5389f089fbcd805bc3"))
    holder = ctypes.c_char.from_buffer(code)
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(ctypes.addressof(holder))
    one, two = tcp_pair()
    with counted(session) as counts:
        copies = [call(one.fileno(), 41) for _ in range(N)]
        assert [call(copy, 6) for copy in copies] == [0] * N
    assert len(set(copies)) == N
    assert counts.all_calls() == {}
    assert not counts.lost
    two.close()


def test_the_return_of_a_signal_handler_is_no_call() -> None:
    """The thread was not seen before. It is in an untraced call when tracing begins."""
    reader, writer = os.pipe()

    def work() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: os.write(writer, b"2") and os._exit(0))
        os.write(writer, b"1")
        threading.Event().wait()

    child = Child(work)
    assert os.read(reader, 1) == b"1"
    status = Path(f"/proc/{child.pid}/status")
    wait_until(lambda: "State:\tS" in status.read_text(), "the child to sleep")
    config = Config(filter=Filter(pids=(child.pid,)), mechanism="tracepoint")
    with Session(config) as session, counted(session) as counts:
        os.kill(child.pid, signal.SIGUSR1)
        assert os.read(reader, 1) == b"2"
        assert child.wait() == 0
    for descriptor in (reader, writer):
        os.close(descriptor)
    assert counts.all_calls() == {}
    assert not counts.lost


def test_the_next_return_does_not_end_a_call_with_a_missed_return() -> None:
    """The kernel may skip a program; then the next call of the thread must not end the last one."""
    one, two = tcp_pair()
    reader, writer = os.pipe()
    config = Config(filter=Filter(pids=(os.getpid(),)), mechanism="tracepoint")
    with Session(config) as session:
        loaded = session._running()
        if loaded.plan.operations != "tracepoint":
            pytest.skip("the exit program is at a tracepoint on other kernels")
        one.send(b"abc")
        before = session.snapshot().total("recv")
        os.close(loaded.descriptors.pop(-2))  # the descriptor that keeps the exit program attached
        assert two.recv(3)[1] == 3
        with trial_programs.attach(loaded.programs["exit_system_call"], "sys_exit"):
            mmap.mmap(-1, mmap.PAGESIZE).close()
            os.write(writer, b"x")
            os.read(reader, 1)
            after = session.snapshot()
    for descriptor in (reader, writer):
        os.close(descriptor)
    assert after.total("recv") == before
    assert after.lost["return_not_seen"] == 1
