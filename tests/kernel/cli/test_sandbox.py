# SPDX-License-Identifier: MIT
"""`run --trace --sandbox`: what a script does is counted as without the sandbox."""

import json
from pathlib import Path

import pytest

from tests.kernel.cli.command_line import counts, run

ROUNDS = 23
LUA = f"""
for _ = 1, {ROUNDS} do
  local listener, client = socket.new("i", "t"), socket.new("i", "t")
  listener:bind("127.0.0.1", 0)
  listener:listen(4)
  client:connect(listener:getsockname())
  local accepted = listener:accept()
  client:send{{1, 2, 3}}
  accepted:recv(3)
  client:sendmsg({{}}, {{1, 2, 3, 4, 5}})
  accepted:recv(5)
  pcall(client.connect, client, "127.0.0.1", 1)
  local one, two = socket.new("i", "u"), socket.new("i", "u")
  two:bind("127.0.0.1", 0)
  local ip, port = two:getsockname()
  one:sendmsg({{name = {{ip, port}}}}, {{1, 2, 3}})
  two:recvmsg{{iov_len = 10}}
  local members = socket.poll{{two}}
  members:select(0)
  for _, sock in ipairs{{client, accepted, listener, one, two}} do sock:close() end
end
"""
PYTHON = f"""
import socket
for _ in range({ROUNDS}):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two:
            two.bind(("127.0.0.1", 0))
            one.sendto(b"12345", two.getsockname())
            two.recv(5)
"""


@pytest.mark.parametrize(("suffix", "code"), [("lua", LUA), ("py", PYTHON)])
def test_the_counts_are_those_without_the_sandbox(tmp_path: Path, suffix: str, code: str) -> None:
    script = tmp_path / f"script.{suffix}"
    script.write_text(code)
    counted = []
    for options in ((), ("--sandbox",)):
        done = run("run", *options, "--trace", "--json", str(script))
        assert done.returncode == 0, done.stderr
        counted.append(counts(json.loads(done.stdout)))
    assert counted[0] == counted[1]
    assert counted[1]["bind", "udp"] == (ROUNDS, 0, {})


def test_a_refused_call_is_not_counted(tmp_path: Path) -> None:
    script = tmp_path / "script.lua"
    code = (
        'local s = socket.new("i", "u") pcall(s.connect, s, "10.0.0.1", 5) s:bind("127.0.0.1", 0)'
    )
    script.write_text(code)
    done = run("run", "--sandbox", "--trace", "--json", str(script))
    counted = counts(json.loads(done.stdout))
    assert ("connect", "udp") not in counted
    assert counted["bind", "udp"] == (1, 0, {})
