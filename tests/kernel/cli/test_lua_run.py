# SPDX-License-Identifier: MIT
"""`lunatik-socket run SCRIPT.lua --trace`: a real download through the proxy in Lua, counted."""

import contextlib
import hashlib
import json
import re
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import TIMEOUT_SECONDS, counts, read_until, run, started

BLOCK = bytes(range(251)) * 4178  # a little over 1 MiB, and no power of two
BLOCKS = 100
BODY_BYTES = len(BLOCK) * BLOCKS
DOWNLOAD_SECONDS = 240  # an emulated machine is slow


def serve_once(listener: socket.socket, request: list[bytes]) -> None:
    client, _ = listener.accept()
    with client:
        client.settimeout(DOWNLOAD_SECONDS)
        request.append(client.recv(65536))
        client.sendall(header())
        for _ in range(BLOCKS):
            client.sendall(BLOCK)


def header() -> bytes:
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES


@contextlib.contextmanager
def http_server() -> Iterator[tuple[int, list[bytes]]]:
    """A port on which one request is answered, and what that was."""
    request: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT_SECONDS)
        thread = threading.Thread(target=serve_once, args=(listener, request), daemon=True)
        thread.start()
        yield listener.getsockname()[1], request
        thread.join(TIMEOUT_SECONDS)
        assert not thread.is_alive()


def download(proxy: int, port: int, target: Path) -> None:
    proxied = ["--socks4", f"127.0.0.1:{proxy}", f"http://127.0.0.1:{port}/"]
    command = ["curl", "-sS", "--noproxy", "", "-o", str(target), *proxied]
    subprocess.run(command, check=True, timeout=DOWNLOAD_SECONDS)


def metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as page:
        lines = page.read().decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


def bytes_total(operation: str) -> str:
    labels = f'operation="{operation}",path="user",transport="tcp"'
    return f"lunatik_socket_operation_bytes_total{{{labels}}}"


@pytest.mark.timeout(2 * DOWNLOAD_SECONDS)
def test_the_proxy_carries_100_mb_while_metrics_count_it(tmp_path: Path) -> None:
    call = ("run", "examples/lua/socks4.lua", "0", "--trace", "--metrics", "127.0.0.1:0")
    with started(*call) as process, http_server() as (port, request):
        assert process.stderr is not None
        found = (re.search(r"http://\S+/metrics", line) for line in process.stderr)
        url = next(match[0] for match in found if match)
        proxy = int(read_until(process, "SOCKSv4 on").rpartition(":")[2])
        download(proxy, port, tmp_path / "body")
        counted = metrics(url)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_SECONDS) == 128 + signal.SIGINT

    body = (tmp_path / "body").read_bytes()
    assert len(body) == BODY_BYTES
    assert hashlib.sha256(body).digest() == hashlib.sha256(BLOCK * BLOCKS).digest()
    carried = len(request[0]) + len(header()) + BODY_BYTES
    bytes_total = (
        'lunatik_socket_operation_bytes_total{{operation="{}",path="user",transport="tcp"}}'
    )
    assert counted[bytes_total.format("recv")] == carried + 9  # the request of SOCKS
    assert counted[bytes_total.format("send")] == carried + 8  # the answer to it


SCRIPT = """
local sock = socket.new("i", "u")
sock:bind("127.0.0.1", 0)
sock:connect(sock:getsockname())
local buffer = data.new(3)
for _ = 1, 23 do
  sock:send(buffer)
  sock:recv(buffer)
end
for _ = 1, 23 do
  local other = socket.new("i", "t")
  print(pcall(other.connect, other, "127.0.0.1", 1))
  other:close()
end
sock:close()
os.exit(7)
"""


def test_a_script_is_traced_alone_and_its_output_goes_to_standard_error(tmp_path: Path) -> None:
    script = tmp_path / "script.lua"
    script.write_text(SCRIPT)
    done = run("run", "--trace", "--no-metrics", "--json", str(script))
    assert done.returncode == 7
    assert done.stderr.count("false\t-111\n") == 23
    counted = counts(json.loads(done.stdout))
    assert counted["send", "udp"] == (23, 69, {})
    assert counted["recv", "udp"] == (23, 69, {})
    assert counted["connect", "tcp"] == (23, 0, {"ECONNREFUSED": 23})
    assert counted["close", "tcp"] == (23, 0, {})
    assert counted["close", "udp"] == (1, 0, {})
    assert not any(json.loads(done.stdout)["tracer"]["lost"].values())
