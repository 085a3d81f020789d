# SPDX-License-Identifier: MIT
"""Filters of system calls. Each is loaded in a process of its own: it cannot be removed."""

import subprocess
import sys

import pytest

START = """
import errno, os, socket, sys, threading
from tracer.process.seccomp import Argument, Rule, allow_only, refuse

def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""
PYTHON_NEEDS = [
    "read",
    "write",
    "close",
    "fstat",
    "newfstatat",
    "lseek",
    "mmap",
    "munmap",
    "mremap",
    "brk",
    "mprotect",
    "madvise",
    "futex",
    "rt_sigaction",
    "rt_sigprocmask",
    "sigaltstack",
    "exit",
    "exit_group",
    "getpid",
    "gettid",
    "getrandom",
]


def printed(code: str) -> list[str]:
    """What the code prints after `START`."""
    done = subprocess.run(
        [sys.executable, "-c", START + code],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_call_that_is_refused_fails_and_others_work() -> None:
    code = 'refuse(["uname"]); print(outcome(os.uname), outcome(os.getcwd))'
    assert printed(code) == ["EPERM", "done"]


def test_with_an_allow_list_a_call_that_is_not_on_it_fails() -> None:
    code = f"allow_only({PYTHON_NEEDS}, errno.ENOSYS); print(outcome(os.uname))"
    assert printed(code) == ["ENOSYS"]


def test_an_argument_decides() -> None:
    code = """
refuse([Rule("socket", (Argument(0, socket.AF_INET, 0xFFFFFFFF),))])
print(outcome(socket.socket, socket.AF_INET), outcome(socket.socket, socket.AF_UNIX))
"""
    assert printed(code) == ["EPERM", "done"]


def test_some_bits_of_an_argument_decide() -> None:
    code = """
refuse([Rule("openat", (Argument(2, os.O_WRONLY, os.O_ACCMODE),))])
flags = os.O_CLOEXEC | os.O_APPEND
print(outcome(os.open, "/dev/null", os.O_WRONLY | flags), outcome(os.open, "/dev/null", flags))
"""
    assert printed(code) == ["EPERM", "done"]


def test_a_rule_has_an_errno_of_its_own() -> None:
    code = """
refuse(["uname", Rule("getcwd", errno=errno.ENOSYS)])
print(outcome(os.uname), outcome(os.getcwd))
"""
    assert printed(code) == ["EPERM", "ENOSYS"]


def test_it_holds_for_threads_that_run_already() -> None:
    code = """
loaded = threading.Event()
thread = threading.Thread(target=lambda: (loaded.wait(), print(outcome(os.uname))))
thread.start()
refuse(["uname"])
loaded.set()
thread.join()
"""
    assert printed(code) == ["EPERM"]


@pytest.mark.parametrize("function", ["allow_only", "refuse"])
def test_it_sets_no_new_privs_and_the_mode_filter(function: str) -> None:
    code = f"""
status = os.open("/proc/self/status", os.O_RDONLY)
{function}({PYTHON_NEEDS if function == "allow_only" else ["uname"]})
fields = dict(line.split(":") for line in os.read(status, 65536).decode().splitlines())
print(fields["NoNewPrivs"], fields["Seccomp"])
"""
    assert printed(code) == ["1", "2"]


def test_a_call_that_this_architecture_does_not_have_is_left_out() -> None:
    assert printed('refuse(["no_such_call", "uname"]); print(outcome(os.uname))') == ["EPERM"]
