# SPDX-License-Identifier: MIT
"""A terminal that hangs up (ssh ends, a tmux window closes) while the tracer runs in it.

The kernel sends SIGHUP only to the session's leader; it signals the other processes of the
foreground when the leader ends (tty_signal_session_leader() and disassociate_ctty() in
drivers/tty/tty_jobctrl.c). Under a shell the shell is the leader. With `ssh -t HOST
lunatik-socket …`, `tmux new` and `docker run -t` the tracer is, and has to tell its child.

From then on every write to the terminal fails with EIO. It must not end the tracer before the
JSON is written.
"""

import contextlib
import errno
import functools
import os
import termios
from collections.abc import Iterator

__all__ = ["is_session_leader", "leave_lost_terminal", "null_device", "outliving_terminal"]

_STANDARD_DESCRIPTORS = (0, 1, 2)


def is_session_leader() -> bool:
    """Whether a hang-up is signalled to this process alone."""
    return os.getsid(0) == os.getpid()


def leave_lost_terminal() -> bool:
    """Open /dev/null in place of each standard descriptor that is a hung-up terminal.

    Returns whether there was one.
    """
    lost = [descriptor for descriptor in _STANDARD_DESCRIPTORS if _has_hung_up(descriptor)]
    if lost:
        for descriptor in lost:
            os.dup2(null_device(), descriptor)
    return bool(lost)


@functools.cache
def null_device() -> int:
    """A descriptor of /dev/null. A process that is confined later opens it before."""
    return os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def outliving_terminal() -> Iterator[None]:
    """Ignore a write that fails because the terminal has hung up; raise any other OSError.

    The signal that tells of the hang-up may come a moment after the failed write.
    """
    try:
        yield
    except OSError:
        if not leave_lost_terminal():
            raise


def _has_hung_up(descriptor: int) -> bool:
    try:
        termios.tcgetattr(descriptor)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)
    return False
