# SPDX-License-Identifier: MIT
"""Give up all rights but the `Powers` of this process, for good."""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

from tracer.kernel.capabilities import has_capability
from tracer.privileges.powers import CAP_BPF, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, Powers
from tracer.process.identity import Identity, become
from tracer.process.seccomp import allow_only, refuse

__all__ = ["can_change_user", "confine"]

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 1, 2, 4, 8
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_CAPABILITIES_VERSION_3 = 0x20080522


def confine(
    powers: Powers,
    identity: Identity | None = None,
    *,
    reads_maps: Callable[[], None] | None = None,
) -> None:
    """Run as `identity` (None: as now), with these powers. There must be no other thread yet.

    `reads_maps` reads a map. If it fails for lack of a right, CAP_BPF is kept. Raises OSError or
    UnsupportedError if the process cannot be confined; it must then end.
    """
    if identity is not None and not can_change_user():
        identity = None  # as in a container that runs as root without CAP_SETUID
    death_signal = ctypes.c_int()
    _prctl(_PR_GET_PDEATHSIG, ctypes.addressof(death_signal))
    _empty_bounding_set()
    _prctl(_PR_SET_KEEPCAPS, 1)
    if identity is not None:
        become(identity)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    kept = set(powers.capabilities)
    if reads_maps is not None and _lacks_right(reads_maps):
        kept.add(CAP_BPF)
    _keep(kept)
    # So that no other process of this user can read its memory or trace it.
    _prctl(_PR_SET_DUMPABLE, 0)
    # A change of the user or the capabilities has cleared it (prctl(2)).
    _prctl(_PR_SET_PDEATHSIG, death_signal.value)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if powers.allowed:
        allow_only(powers.allowed)
    if powers.refused:
        refuse(powers.refused)


def can_change_user() -> bool:
    """Whether this process has the right to run as another user."""
    return has_capability(CAP_SETUID) and has_capability(CAP_SETGID)


def _empty_bounding_set() -> None:
    if not has_capability(CAP_SETPCAP):
        return  # not root; with no_new_privs, execve(2) gives nothing from that set either
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        _prctl(_PR_CAPBSET_DROP, number)


def _lacks_right(reads_maps: Callable[[], None]) -> bool:
    """Try it without any capability in effect."""
    _set_capabilities(effective=0, permitted=_permitted())
    try:
        reads_maps()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        return True
    return False


def _keep(numbers: set[int]) -> None:
    mask = sum(1 << number for number in numbers) & _permitted()
    _set_capabilities(effective=mask, permitted=mask)


def _permitted() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def _set_capabilities(*, effective: int, permitted: int) -> None:
    """Set these two sets; the inheritable set becomes empty. See capset(2)."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    for half in range(2):
        for position, mask in enumerate((effective, permitted, 0)):
            data[half * 3 + position] = mask >> (32 * half) & 0xFFFFFFFF
    _checked(_libc.capset(header, data))


def _prctl(option: int, argument: int) -> None:
    unused = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(argument), unused, unused, unused))


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


_libc = ctypes.CDLL(None, use_errno=True)
