# SPDX-License-Identifier: MIT
"""prctl(2) and capset(2), which Python does not have: what a process gives up, for good.

Every function raises OSError if the kernel refuses.
"""

import ctypes
import os

__all__ = [
    "death_signal",
    "drop_from_bounding_set",
    "empty_ambient_set",
    "keep_capabilities_over_user_change",
    "refuse_new_privileges",
    "set_capabilities",
    "set_death_signal",
    "set_dumpable",
]

_SET_PDEATHSIG, _GET_PDEATHSIG, _SET_DUMPABLE, _SET_KEEPCAPS = 1, 2, 4, 8
_CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_CAPABILITIES_VERSION_3 = 0x20080522

# Loaded here and not at the call: a child that has just been forked only makes system calls.
_libc = ctypes.CDLL(None, use_errno=True)


def set_death_signal(number: int) -> None:
    """Let the kernel send this signal when the parent ends; a change of the user clears it."""
    _prctl(_SET_PDEATHSIG, number)


def death_signal() -> int:
    """The signal that comes when the parent ends, or 0."""
    found = ctypes.c_int()
    _prctl(_GET_PDEATHSIG, ctypes.addressof(found))
    return found.value


def set_dumpable(*, dumpable: bool) -> None:
    """Whether other processes of this user may trace this one and read its memory."""
    _prctl(_SET_DUMPABLE, int(dumpable))


def refuse_new_privileges() -> None:
    """Let no program that this process starts gain rights (no_new_privs)."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def keep_capabilities_over_user_change() -> None:
    """Keep the permitted capabilities when root becomes another user."""
    _prctl(_SET_KEEPCAPS, 1)


def drop_from_bounding_set(number: int) -> None:
    """Let no program that this process starts have this capability."""
    _prctl(_CAPBSET_DROP, number)


def empty_ambient_set() -> None:
    """Pass no capability on to programs that this process starts."""
    _prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)


def set_capabilities(*, effective: int, permitted: int) -> None:
    """Set these two sets, as masks; the inheritable set becomes empty. See capset(2)."""
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
