# SPDX-License-Identifier: MIT
"""Limits of this process that the kernel enforces: memory, CPU time, descriptors, privileges."""

from __future__ import annotations

import os
import resource
import signal

from tracer.errors import UnsupportedError
from tracer.process.identity import NOBODY, become
from tracer.process.rights import (
    death_signal,
    refuse_new_privileges,
    set_capabilities,
    set_death_signal,
    set_dumpable,
)

__all__ = ["drop_privileges", "lessen", "limit_cpu"]

_DESCRIPTORS = 1024


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
    try:
        death = signal.SIGKILL if for_script else death_signal()
        if os.geteuid() == 0:
            become(NOBODY)
        # With an empty set, nothing is left that an exec could add to either: no_new_privs.
        set_capabilities(effective=0, permitted=0)
        refuse_new_privileges()
        # After a change of the user id, only root may take the descriptors of a process, unless the
        # process agrees.
        set_dumpable(dumpable=for_script)
        set_death_signal(death)
    except OSError as error:
        raise UnsupportedError.of(error, "set up", "sandbox") from error
    os.umask(0o077)
    os.chdir("/")
