# SPDX-License-Identifier: MIT
"""Independent views of the same facts: the log of strace, and the counts of other programs."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.kernel.bpf.sockets import N
from tests.kernel.counting import Counts, counted
from tracer.kernel.architecture import architecture
from tracer.kernel.btf import KernelTypes
from tracer.kernel.mechanisms import works
from tracer.loading.plan import preempts_tracepoints
from tracer.model.operations import OPERATIONS, Bytes, Subject, system_calls
from tracer.session import Session

WORK = """
import errno, os, socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
for i in range(23):
    client.sendall(b"x" * i)
    os.write(client.fileno(), b"yz")
    peer.recv(1000)
    client.sendmsg([b"a", b"bc"])
    peer.recvmsg(10)
    client.getpeername()
    client.setsockopt(socket.SOL_TCP, socket.TCP_NODELAY, 1)
    client.getsockopt(socket.SOL_TCP, socket.TCP_NODELAY)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(23):
    try:
        udp.listen(5)
    except OSError:
        pass
if os.fork() == 0:
    client.send(b"child")
    os._exit(0)
os.wait()
for each in client, peer, server, udp:
    each.close()
"""

# PID  name(arguments) = result [ERRNO (text)]; -y writes a socket descriptor as 3<socket:[…]>
LINE = re.compile(
    r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)(?: (?P<errno>E\w+))?"
)
ON_SOCKET = re.compile(r"^\d+<socket:")


def _by_strace(log: str) -> tuple[Counter[str], Counter[str], Counter[tuple[str, str]]]:
    """Calls, bytes and errors by operation, from the log of strace -f -y."""
    calls = {call.name: (operation, call) for operation, call in system_calls()}
    number: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    errors: Counter[tuple[str, str]] = Counter()
    for line in log.splitlines():
        match = LINE.match(line)
        if match is None:
            continue
        name = "sendfile64" if match["name"] == "sendfile" else match["name"]
        if name not in calls:
            continue
        operation, call = calls[name]
        if call.subject is Subject.ANY_FILE and not ON_SOCKET.match(match["arguments"]):
            continue
        number[operation.name] += 1
        if match["errno"]:
            errors[operation.name, match["errno"]] += 1
        elif call.bytes is Bytes.RETURNED:
            moved[operation.name] += int(match["result"])
    return number, moved, errors


def _assert_same(counts: Counts, log: str) -> None:
    number, moved, errors = _by_strace(log)
    assert counts.all_calls() == dict(number)
    for operation in OPERATIONS:
        assert counts.bytes(operation.name) == moved[operation.name], operation.name
        expected = {e: n for (name, e), n in errors.items() if name == operation.name}
        assert counts.errors(operation.name) == expected


def test_strace_sees_the_same(session: Session, tmp_path: Path) -> None:
    """Strace makes no socket calls itself, so it and the tracer can watch the same run."""
    log = tmp_path / "log"
    names = ",".join(sorted(_strace_names()))
    command = ["strace", "-f", "-y", "-qq", f"-e{names}", "-esignal=none", "-o", str(log)]
    with counted(session) as counts:
        subprocess.run([*command, sys.executable, "-c", WORK], check=True, timeout=120)
    assert counts.calls("send") == 47  # 22 of some bytes, one of none, 23 by write, the child's
    _assert_same(counts, log.read_text())


def _strace_names() -> set[str]:
    known = {call.name for _, call in system_calls()} | {"sendfile"}
    return {f"?{name}" for name in known - {"sendfile64"}}


def test_python_http_server_and_curl(session: Session, tmp_path: Path) -> None:
    """Compares the bytes counted by curl and by the server with the tracer's."""
    (tmp_path / "file").write_bytes(os.urandom(100_003))
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port is not None
        url = f"http://127.0.0.1:{port[1]}/file"
        with counted(session) as counts:
            sizes = [_curl(url) for _ in range(N)]
    finally:
        server.kill()
        server.communicate(timeout=30)
    requested, headers, bodies = map(sum, zip(*sizes, strict=True))
    assert bodies == N * 100_003
    assert counts.calls("accept", "tcp") == N
    assert counts.calls("connect", "tcp") == N
    assert counts.failed["connect", "tcp", "EINPROGRESS"] == N  # curl connects without blocking
    # Each byte was sent once and received once: requests by curl, answers by the server.
    assert counts.bytes("send", "tcp") == requested + headers + bodies
    assert counts.bytes("recv", "tcp") == requested + headers + bodies
    assert not counts.lost
    assert set(counts.in_progress) <= {"select"}  # the server waiting for the next connection


def _curl(url: str) -> tuple[int, int, int]:
    form = "%{size_request} %{size_header} %{size_download}"
    output = subprocess.run(
        ["curl", "--noproxy", "*", "-s", "-o", "/dev/null", "-w", form, url],
        check=True,
        capture_output=True,
        timeout=60,
        text=True,
    ).stdout
    request, header, body = map(int, output.split())
    return request, header, body


C_PROGRAM = r"""
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static int pair[2];

static void *work(void *unused)
{
	char buffer[16];
	struct iovec part = {buffer, sizeof(buffer)};
	struct pollfd ready = {.fd = pair[1], .events = POLLIN};

	for (int i = 0; i < 23; i++) {
		write(pair[0], "seven..", 7);
		poll(&ready, 1, -1);
		readv(pair[1], &part, 1);
	}
	return unused;
}

int main(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	pthread_t thread;
	int server = socket(AF_INET, SOCK_DGRAM, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind(server, (void *)&address, length);
	getsockname(server, (void *)&address, &length);
	pair[0] = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
	connect(pair[0], (void *)&address, length);
	pair[1] = dup(server);
	pthread_create(&thread, 0, work, 0);
	pthread_join(thread, 0);
	close(server);
	close(server); /* EBADF: no socket any more, so no socket's close */
	return 0;
}
"""


def test_program_in_c(session: Session, tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(C_PROGRAM)
    program = tmp_path / "program"
    subprocess.run(
        ["gcc", "-w", "-o", str(program), str(tmp_path / "program.c"), "-lpthread"],
        check=True,
        timeout=60,
    )
    with counted(session) as counts:
        subprocess.run([str(program)], check=True, timeout=60)
    assert counts.all_calls() == {
        "new": 2,
        "bind": 1,
        "getsockname": 1,
        "connect": 1,
        "send": 23,
        "recv": 23,
        "select": 23,
        "close": 1,
    }
    assert counts.bytes("send", "udp") == counts.bytes("recv", "udp") == 23 * 7
    assert counts.errors("close") == {}


def test_every_system_call_of_the_table_is_traced(session: Session) -> None:
    named = {call.name for _, call in system_calls()} & architecture().numbers.keys()
    assert {probe.name for probe in session.snapshot().probes if probe.attached} >= named


def test_the_mechanism_in_use_sees_every_call(session: Session) -> None:
    """Where the kernel may preempt the programs of tracepoints, they are not used."""
    with KernelTypes() as types:
        preempted = preempts_tracepoints(types)
    ways = {p.mechanism for p in session.snapshot().probes if p.path == "user"}
    assert ways == {"kprobe_multi" if preempted and works("kprobe_multi") else "tracepoint"}
