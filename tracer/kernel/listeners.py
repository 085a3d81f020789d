# SPDX-License-Identifier: MIT
"""The ports on which TCP sockets listen, in every network namespace that a process is in.

From /proc/PID/net/tcp and tcp6, whose format is in the kernel's Documentation/networking/
proc_net_tcp.rst. Reading them needs no rights beyond those that tracing needs anyway.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tracer.kernel.namespaces import processes_of_namespaces

__all__ = ["listening_ports"]

_LISTEN = "0A"  # TCP_LISTEN


def listening_ports() -> set[int]:
    """The local ports of all listening TCP sockets."""
    return {
        port
        for process in processes_of_namespaces()
        for name in ("tcp", "tcp6")
        for port in _listening(process / "net" / name)
    }


def _listening(path: Path) -> Iterator[int]:
    """The ports from lines such as "0: 0100007F:1F90 00000000:0000 0A ...", state 0A only."""
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == _LISTEN:
                yield int(local.rpartition(":")[2], 16)
