# SPDX-License-Identifier: MIT
"""`run --sandbox` as a process: addresses, limits, exit status, Python scripts."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pure.tracer.sandbox.running import ROOT, run
from tracer.sandbox.python_script import MODULES
from tracer.sandbox.settings import Settings


@pytest.fixture
def lua(tmp_path: Path) -> Path:
    return tmp_path / "script.lua"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    return tmp_path / "script.py"


TALK = """
local listener, client = socket.new("i", "t"), socket.new("i", "t")
listener:bind("127.0.0.1", 0)
listener:listen(4)
client:connect(listener:getsockname())
local accepted = listener:accept()
print(client:send{1, 2, 3}, #accepted:recv(9))
print(client:sendmsg({}, data.new(300000)) == 300000)
local size = 0
while size < 300000 do size = size + select(2, accepted:recv(data.new(65536))) end
local one, two = socket.new("i", "u"), socket.new("i", "u")
two:bind("127.0.0.1", 0)
local ip, port = two:getsockname()
print(one:sendmsg({name = {ip, port}}, {5, 6}), table.concat(two:recv(9), " "))
one:connect(ip, port)
print(one:send{7}, two:recv(9)[1])
"""


def test_sockets_on_loopback_work(lua: Path) -> None:
    assert run(lua, TALK) == (0, "3\t3\ntrue\n2\t5 6\n1\t7\n", "")


REFUSED = {
    "connect": 'socket.new("i", "t"):connect("10.0.0.1", 80)',
    "connect of udp": 'socket.new("i", "u"):connect("10.0.0.1", 80)',
    "sendmsg": 'socket.new("i", "u"):sendmsg({name = {"10.0.0.1", 53}}, {1})',
    "bind": 'socket.new("i", "t"):bind("0.0.0.0", 0)',
    "listen without bind": 'socket.new("i", "t"):listen(1)',
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_addresses_are_refused_and_the_option_is_named(lua: Path, what: str) -> None:
    status, out, err = run(lua, f"print(pcall(function() {REFUSED[what]} end))")
    assert (status, out) == (0, "false\t-13\n")
    address = r"10\.0\.0\.1:(80|53); allow it with --connect \S+"
    local = r"0\.0\.0\.0:0; allow it with --listen 0\.0\.0\.0:0"
    expected = rf"lunatik-socket: the sandbox does not allow to [a-z ]+ ({address}|{local})\n"
    assert re.fullmatch(expected, err)


def test_an_address_that_is_allowed_is_used_and_loopback_is_not_anymore(lua: Path) -> None:
    code = """
    local s = socket.new("i", "t")
    print(pcall(s.bind, s, "0.0.0.0", 0))
    print(pcall(s.connect, socket.new("i", "t"), "127.0.0.2", 1))
    print(pcall(s.connect, socket.new("i", "t"), "127.0.0.1", 1))
    """
    options = ("--listen", "*:*", "--connect", "127.0.0.2:1")
    status, out, _ = run(lua, code, *options)
    assert (status, out) == (0, "true\nfalse\t-111\nfalse\t-13\n")


def test_cpu_time_is_limited(lua: Path) -> None:
    status, _, err = run(lua, "while true do pcall(error) end", "--time", "1")
    assert (status, err) == (152, "lunatik-socket: the script has used its 1 s of CPU time\n")


def test_cpu_time_of_a_script_that_ignores_the_signal_is_limited(python: Path) -> None:
    code = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    status, _, err = run(python, code, "--time", "1")
    assert (status, err) == (152, "lunatik-socket: the script has used its 1 s of CPU time\n")


def test_memory_of_a_python_script_is_limited(python: Path) -> None:
    code = "try: bytearray(64 << 20)\nexcept MemoryError: print('none', len(bytearray(1 << 20)))"
    assert run(python, code, "--memory", "32M") == (0, f"none {1 << 20}\n", "")


def test_limits_without_the_sandbox_leave_a_python_script_its_modules(python: Path) -> None:
    python.with_name("beside.py").write_text("value = 5")
    code = "import beside, http.client\ntry: bytearray(64 << 20)\n"
    code += "except MemoryError: print(beside.value)"
    ended = run(python, code, "--memory", "32M", "--time", "9", sandbox=False)
    assert ended == (0, "5\n", "")


def test_descriptors_are_limited(lua: Path) -> None:
    fill = "while true do t[#t + 1] = socket.new('i', 't') end"
    assert run(lua, f"local t = {{}} print(pcall(function() {fill} end))") == (
        0,
        "false\t-24\n",
        "",
    )


@pytest.mark.parametrize("status", [0, 1, 7])
def test_the_exit_status_is_passed_on(lua: Path, python: Path, status: int) -> None:
    assert run(lua, f"io = nil print(1) os.exit({status})") == (status, "1\n", "")
    assert run(python, f"print(1)\nraise SystemExit({status})") == (status, "1\n", "")


def test_a_script_that_a_signal_ends_ends_the_command_by_it(python: Path) -> None:
    code = "import ctypes\nctypes.string_at(0)"
    assert run(python, code)[0] == -signal.SIGSEGV


def test_the_supervisor_and_the_script_have_no_privileges(python: Path) -> None:
    code = "import time\nprint('ready', flush=True)\ntime.sleep(60)"
    python.write_text(code)
    command = [sys.executable, "-m", "tracer", "run", "--sandbox", str(python)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "ready\n"
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text()
        (script,) = children.split()
        for pid in (supervisor.pid, script):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            assert "0" not in status["Uid"].split()
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
            assert status["NoNewPrivs"] == "1"
            assert status["Seccomp"] == "2"
        supervisor.kill()
    # The kernel kills the script with its parent: this would fail if another reused the pid.
    for _ in range(1000):
        if not Path(f"/proc/{script}").exists():
            break
        time_passes()
    else:
        pytest.fail("the script still runs")


def time_passes() -> None:
    signal.sigtimedwait([signal.SIGUSR2], 0.01)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_on_the_list_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "sandbox.md").read_text()


def test_a_python_script_imports_the_list_and_nothing_else(python: Path) -> None:
    code = "".join(f"import {name}\n" for name in MODULES) + "import http.client\n"
    status, out, err = run(python, code)
    assert (status, out) == (1, "")
    assert err.endswith(
        'ModuleNotFoundError: cannot import "http" in a sandbox; '
        "docs/sandbox.md lists what can be imported\n"
    )


def test_a_python_script_runs_asyncio_on_loopback(python: Path) -> None:
    code = """
import asyncio

async def main():
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\\n")
    print((await reader.read()).decode(), end="")

asyncio.run(main())
"""
    assert run(python, code) == (0, "HELLO\n", "")


def test_a_failing_python_script_shows_its_lines(python: Path) -> None:
    status, _, err = run(python, "def f():\n    raise ValueError('no')\n\nf()\n")
    assert status == 1
    assert err.splitlines()[1:] == [
        f'  File "{python}", line 4, in <module>',
        "    f()",
        f'  File "{python}", line 2, in f',
        "    raise ValueError('no')",
        "ValueError: no",
    ]


def test_the_command_line_cannot_open_the_language() -> None:
    text = Settings(sandbox=True, as_lua_is=True).to_text()
    assert Settings.from_text(text) == Settings(sandbox=True)
    forged = json.dumps({**json.loads(text), "as_lua_is": True})
    assert not Settings.from_text(forged).as_lua_is


# Fills the queue of a listener, so that the last connect blocks, in the supervisor.
BLOCKED = """
local listener, t = socket.new("i", "t"), {}
listener:bind("127.0.0.1", 0)
listener:listen(1)
local ip, port = listener:getsockname()
print("begins")
for i = 1, 9 do
  t[i] = socket.new("i", "t")
  t[i]:connect(ip, port)
end
"""


@pytest.mark.parametrize("to_script", [False, True])
def test_a_signal_ends_both_while_the_supervisor_is_in_a_call(lua: Path, to_script: bool) -> None:
    lua.write_text(BLOCKED)
    command = [sys.executable, "-m", "tracer", "run", "--sandbox", str(lua)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "begins\n"
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text()
        os.kill(int(children) if to_script else supervisor.pid, signal.SIGKILL)
        assert supervisor.wait(30) == -signal.SIGKILL
        assert supervisor.stdout.read() == ""  # ends only when the script has closed it
