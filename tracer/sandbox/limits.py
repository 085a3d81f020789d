# SPDX-License-Identifier: MIT
"""Limits of this process that the kernel enforces: memory, CPU time, descriptors, privileges."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal

from tracer.errors import UnsupportedError

__all__ = ["drop_privileges", "lessen", "limit_cpu"]

_DESCRIPTORS = 1024
# The user `nobody` of every distribution, and the kernel's own overflowuid. It is not looked up by
# name: that makes socket calls, to nscd, which a tracer would count as the script's.
_NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 2, 4, 38
_CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3


def limit_cpu(seconds: int) -> None:
    """End the process by SIGXCPU after so much CPU time, or a second later by SIGKILL."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    most = seconds + 1 if hard == resource.RLIM_INFINITY else min(seconds + 1, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (min(seconds, most), most))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)


def lessen() -> None:
    """Limit descriptors; allow no core dump, no child and no locked memory."""
    _lower(resource.RLIMIT_NOFILE, _DESCRIPTORS)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK):
        _lower(kind, 0)


def _lower(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def drop_privileges(*, for_script: bool) -> None:
    """Become an unprivileged user without capabilities, for ever.

    root becomes `nobody`; another user stays. The process of the script (`for_script`) also agrees
    that its parent, the supervisor, takes copies of its descriptors, and is killed by the kernel
    when the parent ends. A new user id clears that setting, so the supervisor keeps its own.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    death = ctypes.c_int(signal.SIGKILL)
    if not for_script:
        _prctl(libc, _PR_GET_PDEATHSIG, ctypes.addressof(death))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # With an empty set, nothing is left that an exec could add to either: no_new_privs.
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _checked(libc.capset(header, (ctypes.c_uint32 * 6)()))
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    # After a change of the user id, only root may take the descriptors of a process, unless the
    # process agrees.
    _prctl(libc, _PR_SET_DUMPABLE, int(for_script))
    _prctl(libc, _PR_SET_PDEATHSIG, death.value)
    os.umask(0o077)
    os.chdir("/")


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    none = ctypes.c_ulong(0)
    _checked(libc.prctl(option, ctypes.c_ulong(value), none, none, none))


def _checked(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno() or errno.EPERM
        raise UnsupportedError("set up", "sandbox", os.strerror(code), errno=code)
