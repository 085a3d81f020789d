# SPDX-License-Identifier: MIT
"""Every Lua example of the document runs unchanged, or with the correction of a listed mistake.

    make test-document [DOCUMENT=path]

Each example runs in its own Lua state and network namespace. A counterpart listens on the ports
that the document connects to, and connects to the port on which an example accepts.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from lunatik_socket.lua import ScriptError, State
from tests.document.document import PATH, SLIPS, Example, examples
from tests.document.network import own_network

TIMEOUT_SECONDS = 20
GREETING = b"hello" + b"abc"
LISTENED_ON = (8888, 12345)

CONNECTED = 'sock = socket.new("i", "t") sock:connect("127.0.0.1", 8888)'
WITH_MESSAGE = CONNECTED + ' ip, port, data = "127.0.0.1", 8888, {1, 2, 3}'
CLOSE_ALL = b"sock, other, client = nil collectgarbage() collectgarbage()"
ALL_TAKEN = 'assert(select(2, pcall(sock.recv, sock, 1, "D")) == -11)'

# The code before an example, the assertion after it, and the port that the counterpart connects to.
AROUND: dict[str, tuple[str, str, int | None]] = {
    "socket.new() 1": ("", 'assert(sock:getsockopt("s", "t") == 1)', None),
    "socket:bind() 1": ("", "assert(select(2, sock:getsockname()) == 6666)", None),
    "socket:listen() 1": (
        "",
        'other = socket.new("i", "t") other:connect("127.0.0.1", 6666)',
        None,
    ),
    "socket:accept() 1": ("", "assert(select(2, client:getsockname()) == 6666)", 6666),
    "socket:connect() 1": ("", "assert(select(2, sock:getpeername()) == 8888)", None),
    "socket:recvmsg() 1": (
        WITH_MESSAGE,
        "local d, n, h = sock:recvmsg(msghdr) assert(n == 3 and h == msghdr and #d == 3)",
        None,
    ),
    "socket:recvmsg() 2": (CONNECTED, ALL_TAKEN, None),
    "socket:sendmsg() 1": (WITH_MESSAGE, "assert(sock:sendmsg(msghdr, data) == 3)", None),
    "socket:sendmsg() 2": (CONNECTED, "", None),
    "socket:recv() 1": (CONNECTED, ALL_TAKEN, None),
    "socket:send() 1": (CONNECTED, "", None),
    "socket:close() 1": ("", "assert(select(2, pcall(sock.getsockname, sock)) == -9)", None),
    "socket:getsockname() 1": (CONNECTED, 'assert(ip == "127.0.0.1" and port > 0)', None),
    "socket:getpeername() 1": (CONNECTED, 'assert(ip == "127.0.0.1" and port == 8888)', None),
    "socket:getsockopt() 1": ("", "assert(math.type(recv_buf) == 'integer')", None),
    "socket:setsockopt() 1": ("", 'assert(sock:getsockopt("s", "r") < 10000)', None),
    "socket.poll() 1": ("", "", 8080),
    "lpoll:select() 1": ("", "", 8080),
}
SENT = {
    "socket:sendmsg() 1": 3,
    "socket:sendmsg() 2": 6,
    "socket:send() 1": 6,
    "lpoll:select() 1": 3,
}
PRINTED = {"lpoll:select() 1": ["start select", "select result: 1"]}


class Counterpart:
    """The peer of an example.

    It sends a greeting to each client, keeps the bytes that it receives, and connects to the
    listener of an example.
    """

    def __init__(self, connect_to: int | None) -> None:
        self._greeters: list[threading.Thread] = []
        self._readers: list[threading.Thread] = []
        self._listeners = [socket.create_server(("127.0.0.1", port)) for port in LISTENED_ON]
        self._kept: list[socket.socket] = []
        self.received = b""
        self._more = threading.Condition()
        self._ended = False
        for listener in self._listeners:
            self._start(self._greeters, self._serve, listener)
        if connect_to is not None:
            self._start(self._greeters, self._connect, connect_to)

    def wait_for(self, size: int) -> None:
        """Wait until `size` bytes have been received."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.received) >= size, TIMEOUT_SECONDS)

    def end(self, *, wait: bool) -> None:
        """Stop. With `wait`, first read until the script has closed all its sockets."""
        self._ended = True
        self._shut_down(self._listeners)
        self._join(self._greeters)  # from here on no socket is added to self._kept
        if not wait:
            self._shut_down(self._kept)
        self._join(self._readers)
        for sock in self._listeners + self._kept:
            sock.close()

    @staticmethod
    def _shut_down(sockets: list[socket.socket]) -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):  # the peer has closed already
                sock.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _join(threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(TIMEOUT_SECONDS)
            assert not thread.is_alive()

    @staticmethod
    def _start(threads: list[threading.Thread], work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        thread.start()
        threads.append(thread)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # the end
            client.settimeout(TIMEOUT_SECONDS)
            self._kept.append(client)
            client.sendall(GREETING)
            self._start(self._readers, self._keep, client)

    def _keep(self, client: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):  # the script did not read the greeting
            while octets := client.recv(100):
                with self._more:
                    self.received += octets
                    self._more.notify_all()

    def _connect(self, port: int) -> None:
        sock = socket.socket()
        sock.settimeout(TIMEOUT_SECONDS)
        self._kept.append(sock)
        while not self._ended and sock.connect_ex(("127.0.0.1", port)):  # not yet listening
            os.sched_yield()


@pytest.fixture(scope="module")
def found() -> dict[str, Example]:
    if not PATH.is_file():
        pytest.exit(f'cannot read the document "{PATH}": give its path as DOCUMENT=path', 2)
    return {example.name: example for example in examples(PATH.read_text(encoding="utf-8"))}


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        yield


def run(name: str, code: str) -> tuple[list[str], bytes]:
    """Return the lines that the example printed and the bytes that it sent."""
    before, after, connect_to = AROUND[name]
    printed: list[str] = []
    state = State(log=printed.append)
    counterpart = Counterpart(connect_to)
    done = False
    try:
        state.run(before.encode())
        state.run(code.encode(), name)
        state.run(after.encode())
        counterpart.wait_for(SENT.get(name, 0))
        state.run(CLOSE_ALL)
        done = True
    finally:
        counterpart.end(wait=done)
    return printed, counterpart.received


pytestmark = pytest.mark.skipif(
    not PATH.exists() and not os.environ.get("DOCUMENT"),
    reason="needs the document: make test-document DOCUMENT=path",
)


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.usefixtures("network")
def test_an_example_runs(found: dict[str, Example], name: str) -> None:
    code = found[name].code
    slip = SLIPS.get(name)
    if slip is not None:
        assert slip.wrong in code
        code = code.replace(slip.wrong, slip.right)
    printed, received = run(name, code)
    assert printed == PRINTED.get(name, [])
    sent = SENT.get(name, 0)
    assert received == (b"\x01\x02\x03" + bytes(3))[:sent]


@pytest.mark.parametrize("name", SLIPS)
@pytest.mark.usefixtures("network")
def test_a_mistake_fails_with_the_listed_error(found: dict[str, Example], name: str) -> None:
    with pytest.raises(ScriptError) as caught:
        run(name, found[name].code)
    assert SLIPS[name].failure in str(caught.value)


def test_every_example_is_run(found: dict[str, Example]) -> None:
    assert list(found) == list(AROUND)
    assert len({example.call for example in found.values()}) == 16
