# SPDX-License-Identifier: MIT
"""The kernel's sandbox with the language left open: Lua has all of its libraries, and Python.

A script that has left the language can do no more than these.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pure.tracer.sandbox.running import run, run_open

SCRIPTS = Path(__file__).parent / "escapes"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "script.lua"


ATTEMPTS = {
    "run a command": "assert(os.execute('touch MARK') == true)",
    "run a command and read it": "assert(io.popen('touch MARK'))",
    "open a file to read": "assert(io.open('/etc/passwd'))",
    "open a file to write": "assert(io.open('MARK', 'w'))",
    "remove a file": "assert(os.remove('/etc/hostname'))",
    "load a library": "assert(package.loadlib('libBrokenLocale.so.1', '*'))",
    "read another process": "assert(io.open('/proc/1/environ'))",
    "read this process": "assert(io.open('/proc/self/mem'))",
    "import a module": "python.eval('__import__(\"http.server\")')",
    "open a file in Python": "python.eval('open(\"/etc/passwd\")')",
    "fork": "python.eval('__import__(\"os\").fork()')",
    "execute": 'python.eval(\'__import__("os").execv("/bin/true", ["true"])\')',
    "signal a process": "python.eval('__import__(\"os\").kill(1, 0)')",
    "start a thread": "python.eval('__import__(\"threading\").Thread(target=print).start()')",
    "become root": "python.eval('__import__(\"os\").setuid(0)')",
    "raise a limit": "python.eval('__import__(\"resource\").setrlimit(9, (-1, -1))')",
    "duplicate an output": "python.eval('__import__(\"os\").dup(1)')",
    "use a unix socket": "python.eval('__import__(\"socket\").socket(1)')",
    "use a raw socket": "python.eval('__import__(\"socket\").socket(2, 3, 1)')",
    "use netlink": "python.eval('__import__(\"socket\").socket(16, 3)')",
    "make memory executable": "python.eval('__import__(\"mmap\").mmap(-1, 4096, prot=7)')",
}


@pytest.mark.parametrize("what", ATTEMPTS)
def test_a_script_outside_the_language_cannot(script: Path, what: str) -> None:
    mark = script.with_name("mark")
    script.parent.chmod(0o777)
    attempt = ATTEMPTS[what].replace("MARK", str(mark))
    code = f"print(python ~= nil, pcall(function() {attempt} end))"
    status, out, _ = run_open(script, code)
    assert status == 0
    assert out.startswith("true\tfalse\t"), out
    assert not mark.exists()


def test_the_attempts_work_without_the_kernel(script: Path) -> None:
    """Shows that the attempts above fail because of the sandbox."""
    code = f"""
    from lunatik_socket.lua import State
    State(as_lua_is=True).run(b"assert(os.execute('touch {script}'))")
    """
    subprocess.run([sys.executable, "-c", code.replace("\n    ", "\n")], check=True, timeout=60)
    assert script.exists()


def test_memory_is_limited_outside_the_language(script: Path) -> None:
    code = """
    print(pcall(python.eval, '(lambda b: len(b))(bytearray(256 << 20))'))
    print(pcall(python.eval, '__import__("mmap").mmap(-1, 256 << 20)'))
    print(python.eval('len(bytearray(8 << 20))'))
    """
    status, out, _ = run_open(script, code)
    first, second, third = out.splitlines()
    assert status == 0
    assert first.startswith("false\t")
    assert second.startswith("false\t")
    assert third == str(8 << 20)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86_64")
def test_only_the_listed_system_calls_reach_the_kernel(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
# Left out: calls that wait, end the process or return from a signal handler; and the two of user
# probes, which the kernel answers with SIGILL before the filter.
waits = {7, 23, 34, 35, 230, 232, 270, 271, 281, 441}
for number in set(range(470)) - waits - {15, 60, 219, 231} - {335, 336}:
    ctypes.set_errno(0)
    libc.syscall(number, -1, 0, 0, 0, 0, 0)
    if ctypes.get_errno() != 1:
        print(number)
"""
    status, out, _ = run(script, code)
    assert status == 0
    reached = {int(line) for line in out.split()}
    assert reached == {
        *(
            0,
            1,
            3,
            10,
            11,
            12,
            13,
            14,
            19,
            20,
            24,
            25,
            28,
            39,
            43,
            45,
            47,
            48,
            51,
            52,
            96,
            102,
            104,
        ),
        *(107, 108, 131, 186, 201, 202, 213, 228, 229, 233, 288, 291, 318),
        *(42, 44, 46, 49, 50),  # the supervisor answers
    }


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.lua")), ids=lambda path: path.stem)
def test_an_escape_that_worked_once_runs_no_command(script: Path, path: Path) -> None:
    mark = script.with_name("mark")
    script.parent.chmod(0o777)
    code = path.read_text().replace("MARK", str(mark))
    for ended in (
        run(script, code, "--memory", "64M", "--time", "5"),
        run_open(script, code, seconds=5),
    ):
        status, out, _ = ended
        assert status in (0, 1, 152, -11), ended
        assert "escaped" not in out
    assert not mark.exists()


def test_another_process_of_the_user_cannot_be_read(script: Path) -> None:
    code = f"""
    print(pcall(python.eval, '__import__("ctypes").CDLL(None).ptrace(16, {os.getpid()}, 0, 0)'))
    print(pcall(python.eval, 'open("/proc/{os.getpid()}/maps")'))
    """
    status, out, _ = run_open(script, code)
    assert status == 0
    assert out.splitlines()[0] == "true\t-1"
    assert out.splitlines()[1].startswith("false\t")
