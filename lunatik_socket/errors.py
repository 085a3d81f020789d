# SPDX-License-Identifier: MIT
"""Messages of failed system calls: what was tried, on what, why, and how to get out.

The classes are Python's own: `OSError` picks the subclass (`ConnectionRefusedError`, …) by errno.
"""

from __future__ import annotations

import errno
import os

__all__ = ["named", "raised_by_handler"]

_MENDS = {
    ("bind to", errno.EACCES): "a port below 1024 needs CAP_NET_BIND_SERVICE",
    ("bind to", errno.EADDRINUSE): "choose another port, or 0 for one the kernel picks",
    ("bind to", errno.EADDRNOTAVAIL): "the address must be one of this machine's",
    ("make", errno.EMFILE): "raise the limit of open files (ulimit -n)",
    ("accept on", errno.EMFILE): "raise the limit of open files (ulimit -n)",
}


def named(error: OSError, action: str, where: str) -> OSError:
    """Return `error` again with a message that names `action` and its object `where`.

    Only if the system call raised it: a signal handler's own error passes unchanged, and so does
    one without errno, such as the TimeoutError of Python's settimeout().
    """
    code = error.errno
    if code is None or raised_by_handler(error):
        return error
    cause = f"{os.strerror(code)} ({errno.errorcode.get(code, code)})"
    mend = "the socket is closed" if code == errno.EBADF else _MENDS.get((action, code))
    text = f'cannot {action} "{where}": {cause}'
    return OSError(code, f"{text}; {mend}" if mend else text)


def raised_by_handler(error: BaseException) -> bool:
    """Tell whether an error caught around a C method came from a signal handler.

    A handler runs inside the C method, when a signal interrupts the system call, or right before
    it. It is Python code, so its frame follows the one that caught; a C method leaves no frame.
    """
    trace = error.__traceback__
    return trace is not None and trace.tb_next is not None
