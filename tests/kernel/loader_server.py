# SPDX-License-Identifier: MIT
"""Loads BPF programs in forks of one process that has the compiler ready, for the VM ring.

Under emulation a start of the loader takes 20 s, most of it before it begins with the program: bcc
loads LLVM, and reads all of /proc/kallsyms to look one symbol up. A fork has both already. What it
does then is the same, `tracer.loading.child.main`. The tests that start the tracer as a process of
its own (tests/kernel/loading/test_hand_over.py) start the loader as usual.
"""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import IO

from tracer.loading import child
from tracer.loading.hand_over import Order
from tracer.process.interpreter import loader_interpreter

__all__ = ["LoaderServer", "serve"]

START = (
    "import sys; sys.path[0] = sys.argv[2]; "
    "from tests.kernel import loader_server; loader_server.serve(int(sys.argv[1]))"
)
PROJECT = Path(__file__).parents[2]
NOTHING = Order(
    text="int nothing(void *ctx) { return 0; }",
    cast=None,
    tables={},
    attachments=(),
    maps=(),
    owner=0,
)


class LoaderServer:
    """The process that forks. `start` can take the place of parent._start_loader."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [loader_interpreter(), "-c", START, str(theirs.fileno()), PROJECT],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        assert self._socket.recv(16) == b"ready"

    def start(
        self, request: IO[bytes], log: IO[bytes], inherited: tuple[int, ...]
    ) -> "tuple[socket.socket, Loader]":
        """Fork a loader; returns the socket for its answer, and the process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = [theirs.fileno(), request.fileno(), log.fileno(), *inherited]
            socket.send_fds(self._socket, [b"load"], descriptors)
        return ours, Loader(self._socket, int(self._socket.recv(16)))

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.wait(timeout=60)


class Loader:
    """A fork, with the methods of subprocess.Popen that its user needs."""

    def __init__(self, server: socket.socket, pid: int) -> None:
        self._server = server
        self._pid = pid
        self._end = os.pidfd_open(pid)
        self._status: int | None = None

    def kill(self) -> None:
        if self._status is None:
            signal.pidfd_send_signal(self._end, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            if not select.select([self._end], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("loader", timeout or 0)
            os.close(self._end)
            self._server.send(f"{self._pid}".encode())
            self._status = int(self._server.recv(16))
        return self._status


def serve(descriptor: int) -> None:
    """Fork for each "load", until the other end is closed; for a pid, answer with its status."""
    child.compile_program(child.import_bcc(), NOTHING)
    with socket.socket(fileno=descriptor) as client:
        client.send(b"ready")
        while True:
            message, descriptors, _, _ = socket.recv_fds(client, 16, 16)
            if not message:
                return
            if message == b"load":
                client.send(f"{_fork(client, descriptors)}".encode())
            else:
                _, status = os.waitpid(int(message), 0)
                client.send(f"{os.waitstatus_to_exitcode(status)}".encode())


def _fork(client: socket.socket, descriptors: list[int]) -> int:
    """The pid of a loader; its descriptors are for the answer, the order and the log."""
    answer, request, log = descriptors[:3]
    pid = os.fork()
    if pid == 0:
        client.close()
        for descriptor, number in ((request, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, number)
        try:
            child.main(answer)
        except BaseException:  # a fork must not go on with the server's work
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(1)
    for descriptor in descriptors:
        os.close(descriptor)
    return pid
