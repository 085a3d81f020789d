# SPDX-License-Identifier: MIT
"""A command that is started, held and released."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.process.command import CommandError, StartedCommand
from tracer.process.signals import Signals

TIMEOUT_SECONDS = 20


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C works even if the shell ignored it because the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ended(child: StartedCommand) -> int:
    """Wait until it ends, at most TIMEOUT_SECONDS; return its exit status."""
    descriptor = os.pidfd_open(child.pid)
    try:
        assert select.select([descriptor], [], [], TIMEOUT_SECONDS)[0], "it did not end"
    finally:
        os.close(descriptor)
    status = child.poll()
    assert status is not None
    return status


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_it_does_nothing_until_released(tmp_path: Path) -> None:
    made = tmp_path / "made"
    with StartedCommand(["touch", str(made)]) as child:
        # Before its release it is a waiting copy of this process.
        assert Path(f"/proc/{child.pid}/exe").readlink() == Path(sys.executable).resolve()
        assert child.poll() is None
        assert not made.exists()
        child.release()
        assert ended(child) == 0
    assert made.exists()


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 5", 5), ("kill -TERM $$", 143), ("kill -9 $$", 137)],
)
def test_exit_status_is_that_of_a_shell(script: str, status: int) -> None:
    with StartedCommand(["sh", "-c", script]) as child:
        child.release()
        assert ended(child) == status
        assert child.poll() == status


def test_not_found_is_127() -> None:
    with StartedCommand(["/nosuch/command"]) as child, pytest.raises(CommandError) as error:
        child.release()
    assert error.value.exit_status == 127
    assert str(error.value) == (
        'cannot run "/nosuch/command": No such file or directory (ENOENT); '
        "check the name and the PATH"
    )


def test_not_executable_is_126(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no program")
    with StartedCommand([str(file)]) as child, pytest.raises(CommandError) as error:
        child.release()
    assert error.value.exit_status == 126
    assert str(error.value).endswith(
        "Permission denied (EACCES); check that it is an executable program"
    )


def test_a_command_starts_with_default_signal_handling() -> None:
    """SIGPIPE (which Python ignores) and SIGINT kill it, and no signal is blocked."""
    show = "grep -E '^Sig(Blk|Ign)' /proc/self/status"
    read, write = os.pipe()
    with StartedCommand(["sh", "-c", show], output=write) as child, Signals():
        os.close(write)
        child.release()
        assert ended(child) == 0
        with open(read) as lines:
            blocked, ignored = (int(line.split()[1], 16) for line in lines)
    assert blocked == 0
    assert not ignored >> (signal.SIGPIPE - 1) & 1
    assert not ignored >> (signal.SIGINT - 1) & 1


def test_output_can_be_redirected(pipe: tuple[int, int]) -> None:
    with StartedCommand(
        ["sh", "-c", "echo out; echo err >&2"], output=pipe[1], errors=pipe[1]
    ) as child:
        child.release()
        assert ended(child) == 0
    os.close(pipe[1])
    assert os.read(pipe[0], 100) == b"out\nerr\n"


def test_a_command_that_was_never_released_ends_with_the_block() -> None:
    with StartedCommand(["sleep", "1000"]) as child:
        pass
    assert not is_running(child.pid)


def test_a_command_that_still_runs_ends_with_the_block() -> None:
    with StartedCommand(["sleep", "1000"]) as child:
        child.release()
    assert not is_running(child.pid)


# Starts a command as the arguments say, prints its pid, and waits to be killed.
PARENT = """
import sys, time
from tracer.process.command import StartedCommand
with StartedCommand(["sleep", "1000"], dies_with_us=sys.argv[1] == "dies") as child:
    if sys.argv[2] == "released":
        child.release()
    print(child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("how", "when", "survives"),
    [
        ("dies", "released", False),
        ("dies", "held", False),
        ("lives", "held", False),
        ("lives", "released", True),
    ],
)
def test_sigkill_of_the_tracer_ends_held_and_own_commands_only(
    how: str, when: str, survives: bool
) -> None:
    keep_in, keep_out = os.pipe()
    read, write = os.pipe()
    parent = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", PARENT, how, when],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, keep_in, 0), (os.POSIX_SPAWN_DUP2, write, 1)],
    )
    os.close(write)
    with open(read) as told:
        pid = int(told.readline())
    watch = os.pidfd_open(pid)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    gone = bool(select.select([watch], [], [], 0.2 if survives else TIMEOUT_SECONDS)[0])
    os.close(keep_in)
    os.close(keep_out)
    assert gone is not survives
    if survives:
        signal.pidfd_send_signal(watch, signal.SIGKILL)
        assert select.select([watch], [], [], TIMEOUT_SECONDS)[0]
    os.close(watch)
