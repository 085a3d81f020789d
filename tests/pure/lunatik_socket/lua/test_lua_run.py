# SPDX-License-Identifier: MIT
"""`lunatik-socket run SCRIPT.lua` as a process: output, exit status, Ctrl-C; and the examples."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lunatik_socket import Socket, new
from tests.pure.tracer.sandbox.running import ROOT, Ended, ended

TIMEOUT_SECONDS = 30
RUN = [sys.executable, "-m", "tracer", "run"]


def run(script: Path, code: str, *arguments: str, options: tuple[str, ...] = ()) -> Ended:
    """Return the exit status, standard output and standard error."""
    script.write_bytes(code.encode("latin-1"))
    return ended(*RUN, *options, str(script), *arguments, seconds=TIMEOUT_SECONDS)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "script.lua"


def test_print_and_write_keep_their_order(script: Path) -> None:
    code = """
    io.write('a\xff') print('b', ...) io.write('c\\n')
    io.write('d') print(arg[0]) io.write('e')
    """
    status, out, err = run(script, code, "x", "--", "-y")
    assert (status, err) == (0, "")
    assert out == f"a\xffb\tx\t-y\nc\nd{script}\ne"


def test_a_failure_is_a_traceback_and_status_1(script: Path) -> None:
    status, out, err = run(
        script, "print(1)\nlocal function f()\n  error('oh')\nend\nf()\nprint(2)"
    )
    assert (status, out) == (1, "1\n")
    # Lua shortens long paths.
    assert re.sub(r"\S+script.lua", "script.lua", err) == (
        "lunatik-socket: script.lua:3: oh\nstack traceback:\n\t[C]: in function 'error'\n"
        "\tscript.lua:3: in local 'f'\n\tscript.lua:5: in main chunk\n"
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [("", 0), ("os.exit(7)", 7), ("os.exit()", 0), ("os.exit(false)", 1), ("pcall(os.exit, 3)", 3)],
)
@pytest.mark.parametrize("options", [(), ("--sandbox",), ("--memory", "4M")])
def test_the_exit_status_is_that_of_the_script(
    script: Path, code: str, status: int, options: tuple[str, ...]
) -> None:
    assert run(script, f"print('out') {code}", options=options) == (status, "out\n", "")


def test_the_options_reach_the_script(script: Path) -> None:
    code = "print(io == nil, pcall(data.new, 3 << 20))"
    options = ("--sandbox", "--memory", "2M")
    assert run(script, code, options=options) == (0, "true\tfalse\tnot enough memory\n", "")


def test_a_closed_standard_output_ends_it_with_status_141(script: Path) -> None:
    script.write_text("while true do print('y') end")
    command = f"{sys.executable} -m tracer run {script} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        cwd=ROOT,
    )
    assert (done.stdout, done.stderr) == ("y\n141\n", "")


BROKEN_PIPE = """
import signal
from lunatik_socket.lua import State
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
State().run(b'''
local sock, buffer = socket.new("i", "t"), data.new(5)
assert(select(2, pcall(sock.send, sock, buffer)) == -32)
assert(select(2, pcall(sock.send, sock, {1})) == -32)
assert(select(2, pcall(sock.sendmsg, sock, {}, buffer)) == -32)
''')
"""


def test_a_broken_pipe_is_an_error_and_no_signal() -> None:
    subprocess.run(
        [sys.executable, "-c", BROKEN_PIPE], check=True, timeout=TIMEOUT_SECONDS, cwd=ROOT
    )


# ------------------------------------------------------------------ Ctrl-C

BUSY = {
    "accept": "pcall(listener.accept, listener)",
    "recv": "pcall(one.recv, one, data.new(5))",
    "select": "pcall(members.select, members)",
    "a loop": "",
    "a loop of pcall": "pcall(pcall, error)",
    "a match": "pcall(string.find, ('a'):rep(50), ('a?'):rep(50) .. ('a'):rep(50))",
    "a finalizer": "setmetatable({}, {__gc = function() while true do end end}) collectgarbage()",
}
BEFORE = """
listener, one = socket.new("i", "t"), socket.new("i", "u")
listener:bind("127.0.0.1", 0)
listener:listen(1)
one:bind("127.0.0.1", 0)
members = socket.poll{one}
print("begins")
"""


@contextlib.contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    # Ctrl-C is not ignored, as in a process that a shell starts in the foreground.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    signal.signal(signal.SIGINT, before)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize("what", BUSY)
def test_ctrl_c_ends_it_at_once(script: Path, what: str) -> None:
    script.write_text(f"{BEFORE}\nwhile true do {BUSY[what]} end")
    with started(*RUN, str(script)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        if what in ("accept", "recv", "select"):
            wait_until_it_sleeps(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == -signal.SIGINT
        assert process.communicate(timeout=TIMEOUT_SECONDS) == ("", "")


def wait_until_it_sleeps(pid: int) -> None:
    """Wait until the only thread is inside a system call."""
    give_up = time.monotonic() + TIMEOUT_SECONDS
    while Path(f"/proc/{pid}/syscall").read_text() == "running\n":
        assert time.monotonic() < give_up
        os.sched_yield()


# ------------------------------------------------------------------ the examples


@contextlib.contextmanager
def example(name: str) -> Iterator[int]:
    """Run an example, and yield the port that it listens on."""
    with started(*RUN, f"examples/lua/{name}.lua", "0") as process:
        assert process.stdout is not None
        found = re.fullmatch(r".* on 127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert found is not None
        yield int(found[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == -signal.SIGINT


def received(sock: Socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        part, got = sock.recv(size - len(octets))
        assert got, "the stream ended too early"
        octets += part
    return octets


def test_the_echo_serves_many_clients_and_goes_on_when_they_leave() -> None:
    with example("echo") as port, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(new()) for _ in range(5)]
        for client in clients:
            client.connect("127.0.0.1", port)
        for number, client in enumerate(clients):
            client.send(bytes([number]) * 1009)
        for number, client in enumerate(clients):
            assert received(client, 1009) == bytes([number]) * 1009
        clients[0].close()
        clients[1].setsockopt("s", "l", (1, 0))
        clients[1].send(b"unread")
        clients[1].close()  # a reset
        for client in clients[2:]:
            client.send(b"still")
            assert received(client, 5) == b"still"
            client.shutdown()
            assert client.recv(1) == (b"", 0)


def request(port: int, ip: int = 0x7F000001, version: int = 4, command: int = 1) -> bytes:
    head = bytes([version, command]) + port.to_bytes(2, "big") + ip.to_bytes(4, "big")
    return head + b"somebody\0"


def test_the_proxy_connects_and_forwards_both_ways() -> None:
    with example("socks4") as port, new() as target, new() as client:
        target.bind("127.0.0.1", 0)
        target.listen(5)
        client.connect("127.0.0.1", port)
        for octet in request(target.getsockname()[1]):
            client.send(bytes([octet]))  # one byte at a time
        with target.accept() as peer:
            assert received(client, 8) == bytes([0, 90, 0, 0, 0, 0, 0, 0])
            client.send(b"question")
            assert received(peer, 8) == b"question"
            peer.send(b"answer")
            assert received(client, 6) == b"answer"
        assert client.recv(1) == (b"", 0)


@pytest.mark.parametrize(
    "refused",
    [request(1), request(0), request(9, version=5), request(9, command=2), request(9, ip=1)],
)
def test_the_proxy_refuses_and_goes_on(refused: bytes) -> None:
    with example("socks4") as port:
        for _ in range(2):
            with new() as client:
                client.connect("127.0.0.1", port)
                client.send(refused)
                assert received(client, 8) == bytes([0, 91, 0, 0, 0, 0, 0, 0])
                assert client.recv(1) == (b"", 0)
        with new() as client:
            client.connect("127.0.0.1", port)
            client.send(bytes([4]) * 264 + b"\1")  # longer than any request
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == (b"", 0)
