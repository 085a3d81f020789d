# SPDX-License-Identifier: MIT
"""Give up all rights but the `Powers` of this process, for good."""

import errno
from collections.abc import Callable
from pathlib import Path

from tracer.kernel.capabilities import has_capability
from tracer.privileges.powers import CAP_BPF, CAP_SETGID, CAP_SETPCAP, CAP_SETUID, Powers
from tracer.process.identity import Identity, become
from tracer.process.rights import (
    death_signal,
    drop_from_bounding_set,
    empty_ambient_set,
    keep_capabilities_over_user_change,
    refuse_new_privileges,
    set_capabilities,
    set_death_signal,
    set_dumpable,
)
from tracer.process.seccomp import allow_only, refuse

__all__ = ["can_change_user", "confine"]


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
    signal = death_signal()
    _empty_bounding_set()
    keep_capabilities_over_user_change()
    if identity is not None:
        become(identity)
    empty_ambient_set()
    kept = set(powers.capabilities)
    if reads_maps is not None and _lacks_right(reads_maps):
        kept.add(CAP_BPF)
    _keep(kept)
    # So that no other process of this user can read its memory or trace it.
    set_dumpable(dumpable=False)
    # A change of the user or the capabilities has cleared it (prctl(2)).
    set_death_signal(signal)
    refuse_new_privileges()
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
        drop_from_bounding_set(number)


def _lacks_right(reads_maps: Callable[[], None]) -> bool:
    """Try it without any capability in effect."""
    set_capabilities(effective=0, permitted=_permitted())
    try:
        reads_maps()
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        return True
    return False


def _keep(numbers: set[int]) -> None:
    mask = sum(1 << number for number in numbers) & _permitted()
    set_capabilities(effective=mask, permitted=mask)


def _permitted() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0
