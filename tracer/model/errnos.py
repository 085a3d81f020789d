# SPDX-License-Identifier: MIT
"""Error numbers by name, and where the kernel side counts them.

1 to 133 are the errnos of user space. 512 to 530 are the kernel's own (include/linux/errno.h): a
tracepoint sees a call that a signal broke off return ERESTARTSYS, before the kernel turns that
into EINTR or calls again.
"""

import errno

__all__ = ["ERRNO_NAMES", "ERRNO_SLOTS", "KERNEL_FIRST", "KERNEL_FIRST_SLOT"]

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

# Where one number has two names, the kernel's own.
_NAMES = {**errno.errorcode, 11: "EAGAIN", 35: "EDEADLK", 95: "EOPNOTSUPP"}

ERRNO_NAMES = (
    "unknown",
    *(_NAMES.get(number, str(number)) for number in range(1, KERNEL_FIRST_SLOT)),
    *_KERNEL_NAMES,
)
"""By slot: the label value. Slot 0 is for numbers outside both ranges."""
