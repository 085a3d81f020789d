# SPDX-License-Identifier: MIT
"""Messages of failed system calls: what was tried, on what, the cause, and what to do.

The classes are Python's own: `OSError` picks the subclass (`ConnectionRefusedError`, …) by errno.
"""

from __future__ import annotations

import errno
import os

__all__ = ["named"]

_HINTS = {
    ("bind to", errno.EACCES): "a port below 1024 needs CAP_NET_BIND_SERVICE",
    ("bind to", errno.EADDRINUSE): "choose another port, or 0 for one the kernel picks",
    ("bind to", errno.EADDRNOTAVAIL): "the address must be one of this machine's",
    ("make", errno.EMFILE): "raise the limit of open files (ulimit -n)",
    ("accept on", errno.EMFILE): "raise the limit of open files (ulimit -n)",
}


def named(error: OSError, action: str, where: str) -> OSError:
    """Return an error like `error` with a message that names `action` and its object `where`.

    Only errors of a system call are changed. A signal handler may run inside the C method and raise
    an `OSError` of its own, with its own text, a file name, or no errno: that one is returned
    unchanged. So is the TimeoutError of Python's settimeout(), which has no errno.
    """
    code = error.errno
    if code is None or not _is_of_system_call(error, code):
        return error
    cause = f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
    hint = "the socket is closed" if code == errno.EBADF else _HINTS.get((action, code))
    text = f'cannot {action} "{where}": {cause}'
    return OSError(code, f"{text}; {hint}" if hint else text)


def _is_of_system_call(error: OSError, code: int) -> bool:
    # What CPython's socket methods raise: errno, strerror(3) of it, and no file name.
    return error.strerror == os.strerror(code) and error.filename is None
