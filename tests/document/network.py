# SPDX-License-Identifier: MIT
"""Runs code in a network namespace, because the document's fixed ports may be in use."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["own_network"]

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def own_network() -> Iterator[None]:
    """Put this thread, and threads that it starts, into a new network namespace with loopback."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(_CLONE_NEWNET), "make a network namespace")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=20)
        yield
    finally:
        _checked(_libc.setns(before, _CLONE_NEWNET), "return to the network namespace")
        os.close(before)


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot {what}: {os.strerror(code)}; run as root")
