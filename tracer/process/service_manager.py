# SPDX-License-Identifier: MIT
"""What a service manager is told and what it passes: sd_notify(3) and sd_listen_fds(3).

Everything here does nothing when the variables of the environment are not set. They are removed
from the environment, so that a started command does not take itself for the service.
"""

import contextlib
import os
import socket
import time

from tracer.errors import UsageError

__all__ = ["ServiceManager", "passed_listener"]

_FIRST_PASSED_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_LISTENER = "metrics"  # FileDescriptorName= of the socket unit


class ServiceManager:
    """Tells the service manager of this process what it does: Type=notify and WatchdogSec=."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        seconds = int(os.environ.pop("WATCHDOG_USEC", "0")) / 1e6
        watched = os.environ.pop("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.alive_seconds = seconds / 2 if seconds and watched else None
        """How often to call `alive`; None without a watchdog."""

    @property
    def is_there(self) -> bool:
        """Whether a service manager waits for notifications."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """The service works: it has started or reloaded. `status` is for `systemctl status`."""
        self._notify("READY=1", f"STATUS={status}" if status else "")

    def reloading(self) -> None:
        """The service reads its settings again; `ready` ends this."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._notify("STOPPING=1", "STATUS=stopping")

    def alive(self) -> None:
        """The main loop still runs; without this for WatchdogSec the service is restarted."""
        if self.alive_seconds is not None:
            self._notify("WATCHDOG=1")

    def _notify(self, *lines: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL byte of an abstract address.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        # A manager that is gone or slow must not stop the trace.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.setblocking(False)
            own.sendto("\n".join(filter(None, lines)).encode(), address)


def passed_listener() -> socket.socket | None:
    """The listening socket for the metrics that the service manager passed; None if there is none.

    Raises UsageError if it passed something else: the unit of the socket is wrong then.
    """
    pid, count, names = (
        os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    descriptors = range(_FIRST_PASSED_DESCRIPTOR, _FIRST_PASSED_DESCRIPTOR + int(count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if int(count) != 1:
        found = f"it passed {count} ({names})"
        raise _wrong_socket(found, "give the socket unit one ListenStream=")
    passed = socket.socket(fileno=_FIRST_PASSED_DESCRIPTOR)
    is_tcp = passed.family in (socket.AF_INET, socket.AF_INET6)
    if not is_tcp or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise _wrong_socket("it does not listen on TCP", "use ListenStream=ADDR:PORT, Accept=no")
    return passed


def _wrong_socket(cause: str, hint: str) -> UsageError:
    return UsageError("use the socket of the service manager for", _LISTENER, cause, hint=hint)
