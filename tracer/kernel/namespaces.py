# SPDX-License-Identifier: MIT
"""Network namespaces: the sockets of a container are in one of their own."""

import ctypes
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["inside", "processes_of_namespaces"]

_libc = ctypes.CDLL(None, use_errno=True)


def processes_of_namespaces() -> Iterator[Path]:
    """Yield the /proc directory of one process of each network namespace, our own first."""
    seen = set()
    for process in (Path("/proc/self"), *Path("/proc").glob("[1-9]*")):
        with suppress(OSError):  # it has ended, or is not ours to look at
            namespace = (process / "ns/net").stat().st_ino
            if namespace not in seen:
                seen.add(namespace)
                yield process


def inside(process: Path, make: Callable[[], socket.socket]) -> socket.socket:
    """Return the socket that `make` makes in the network namespace of the process.

    A socket stays in the namespace in which it was made. The caller's thread stays in its own.
    Needs CAP_SYS_ADMIN for another namespace than ours; raises OSError.
    """
    if process == Path("/proc/self"):
        return make()
    results: list[socket.socket | OSError] = []
    # The namespace belongs to a thread, and a new thread takes its change with it when it ends.
    thread = threading.Thread(target=_make_inside, args=(process, make, results))
    thread.start()
    thread.join()
    (result,) = results
    if isinstance(result, OSError):
        raise result
    return result


def _make_inside(
    process: Path, make: Callable[[], socket.socket], results: list[socket.socket | OSError]
) -> None:
    try:
        namespace = os.open(process / "ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(namespace, 0) != 0:
                errno = ctypes.get_errno()
                raise OSError(errno, os.strerror(errno))
        finally:
            os.close(namespace)
        results.append(make())
    except OSError as error:
        results.append(error)
