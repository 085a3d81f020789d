# SPDX-License-Identifier: MIT
"""Error numbers by name, and where the kernel side counts them.

1 to 133 are the errnos of user space. 512 to 530 are internal to the kernel
(include/linux/errno.h): when a signal interrupts a call, the tracepoint sees it return ERESTARTSYS
(or one of its kind), before the kernel turns that into EINTR or restarts the call.
"""

import errno

__all__ = ["ERRNO_NAMES", "ERRNO_SLOTS", "EXPECTED_ERRNOS", "KERNEL_FIRST", "KERNEL_FIRST_SLOT"]

KERNEL_FIRST_SLOT = 134
KERNEL_FIRST = 512
_KERNEL_NAMES = (
    "ERESTARTSYS",
    "ERESTARTNOINTR",
    "ERESTARTNOHAND",
    "ENOIOCTLCMD",
    "ERESTART_RESTARTBLOCK",
    "EPROBE_DEFER",
    "EOPENSTALE",
    "ENOPARAM",
    "520",
    "EBADHANDLE",
    "ENOTSYNC",
    "EBADCOOKIE",
    "ENOTSUPP",
    "ETOOSMALL",
    "ESERVERFAULT",
    "EBADTYPE",
    "EJUKEBOX",
    "EIOCBQUEUED",
    "ERECALLCONFLICT",
)

ERRNO_SLOTS = KERNEL_FIRST_SLOT + len(_KERNEL_NAMES)

# Where one number has two names, the one that the kernel uses.
_NAMES = {**errno.errorcode, 11: "EAGAIN", 35: "EDEADLK", 95: "EOPNOTSUPP"}

ERRNO_NAMES = (
    "unknown",
    *(_NAMES.get(number, str(number)) for number in range(1, KERNEL_FIRST_SLOT)),
    *_KERNEL_NAMES,
)
"""By slot: the label value. Slot 0 is for numbers outside both ranges."""

EXPECTED_ERRNOS = (
    "EAGAIN",
    "EALREADY",
    "EINPROGRESS",
    "EINTR",
    "ERESTARTNOHAND",
    "ERESTARTNOINTR",
    "ERESTARTSYS",
    "ERESTART_RESTARTBLOCK",
)
"""Errnos that are no failures, sorted by name.

A non-blocking call returns EAGAIN, EALREADY or EINPROGRESS when it would have to wait; a call that
a signal interrupted returns EINTR or one of the kernel's restart codes. Every view that singles out
failures (terminal, page, dashboards, alerts) leaves these out.
"""
