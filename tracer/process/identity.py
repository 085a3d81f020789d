# SPDX-License-Identifier: MIT
"""Users: the one that a network-facing process runs as, and the one that a command runs as."""

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

from tracer.errors import UsageError

__all__ = ["NOBODY", "Identity", "become", "service_user", "user_behind_sudo", "user_for"]

_SERVICE_USERS = ("lunatik-socket", "nobody")
_LARGEST_ID = (1 << 32) - 2  # -1 means "unchanged" to setresuid(2)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and its groups. `environment` are the variables that name the user."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    environment: Mapping[str, str]


NOBODY = Identity(65534, 65534, (), {})
"""`nobody` of every distribution: the kernel's overflow uid, which owns nothing.

It is not looked up by name. That makes socket calls, to nscd, which a tracer would count as those
of the process that is about to run as this user.
"""


def _chosen(name: str) -> Identity:
    """The user with this name or number; raises UsageError if there is none of this name.

    A number that no user has is taken as it is, with the group of the same number.
    """
    if name.isascii() and name.isdigit():
        number = int(name)
        if number > _LARGEST_ID:
            raise UsageError("run as user", name, f"a user id is at most {_LARGEST_ID}")
        return _user_of(number) or Identity(number, number, (), {})
    try:
        return _identity(pwd.getpwnam(name))
    except (KeyError, ValueError):
        raise UsageError(
            "run as user", name, "no such user", hint="getent passwd lists all users"
        ) from None


def user_for(name: str | None, default: Identity | None) -> Identity | None:
    """The user that a started process runs as: the one chosen by `--user`, else `default`.

    None: the same as now. Raises UsageError if this process cannot change its user.
    """
    if name is None:
        return default if os.geteuid() == 0 else None
    chosen = _chosen(name)
    if chosen.uid == os.geteuid():
        return None
    if os.geteuid():
        raise UsageError("run as user", name, "only root may", hint="leave out --user")
    return chosen


def service_user() -> Identity:
    """The user of processes that talk to the network: lunatik-socket if it exists, else nobody."""
    for name in _SERVICE_USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid:
            return Identity(found.pw_uid, found.pw_gid, (), {})
    return NOBODY


def user_behind_sudo() -> Identity | None:
    """The user that called sudo; None if this process does not run as root by sudo."""
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() or not uid.isdigit() or not 0 < int(uid) <= _LARGEST_ID:
        return None
    if (found := _user_of(int(uid))) is not None:
        return found
    gid = os.environ.get("SUDO_GID", "")
    return Identity(int(uid), int(gid) if gid.isdigit() else int(uid), (), {})


def become(identity: Identity) -> None:
    """Make this process run as this user, for good; raises OSError without the right to."""
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)


def _user_of(uid: int) -> Identity | None:
    try:
        return _identity(pwd.getpwuid(uid))
    except KeyError:
        return None


def _identity(found: pwd.struct_passwd) -> Identity:
    names = {"USER": found.pw_name, "LOGNAME": found.pw_name, "HOME": found.pw_dir}
    groups = tuple(os.getgrouplist(found.pw_name, found.pw_gid))
    return Identity(found.pw_uid, found.pw_gid, groups, names)
