# SPDX-License-Identifier: MIT
"""The cgroup2 hierarchy: where it is mounted, and the path of a cgroup by its id."""

import contextlib
import functools
import os
from pathlib import Path

from tracer.errors import UnsupportedError, UsageError

__all__ = ["cgroup_directory", "cgroup_of_thread", "cgroup_path", "path_in_kernel"]

_INITIAL_CGROUP_NAMESPACE = 0xEFFFFFFB  # the kernel's PROC_CGROUP_INIT_INO


@functools.cache
def _mount_point() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount_point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(mount_point)
    raise UnsupportedError(
        "find cgroup2",
        cause="it is not mounted",
        hint="mount -t cgroup2 cgroup2 /sys/fs/cgroup",
    )


def cgroup_directory(path: str) -> Path:
    """The directory of a cgroup; `path` is that directory, or relative to the root of cgroup2.

    Raises UsageError if there is no such cgroup.
    """
    mount_point = _mount_point()
    for candidate in (Path(path), mount_point / path.lstrip("/")):
        if (candidate / "cgroup.procs").exists() and candidate.is_relative_to(mount_point):
            return candidate
    raise UsageError(
        "find the cgroup",
        path,
        f'no such directory below "{mount_point}"',
        hint="systemd-cgls lists all cgroups",
    )


def path_in_kernel(directory: Path) -> str | None:
    """The path that the kernel has for the cgroup of this directory, from the hierarchy's root.

    None in a cgroup namespace, where that is not known.
    """
    if Path("/proc/self/ns/cgroup").stat().st_ino != _INITIAL_CGROUP_NAMESPACE:
        return None
    below = directory.resolve().relative_to(_mount_point().resolve())
    return str(Path(_mounted_root()) / below)


def _mounted_root() -> str:
    """The cgroup that is mounted at the mount point: another one than the root in a bind mount."""
    # "41 31 0:38 /root /mount/point rw,relatime - cgroup2 cgroup2 rw"; see proc_pid_mountinfo(5)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(_mount_point()) and "cgroup2" in fields[6:]:
            return fields[3]
    return "/"


def cgroup_of_thread(pid: int, tid: int) -> Path:
    """The directory of the thread's cgroup; raises OSError if the thread has ended."""
    for line in Path(f"/proc/{pid}/task/{tid}/cgroup").read_text().splitlines():
        if line.startswith("0::"):  # cgroup2; the other lines are hierarchies of cgroup1
            return _mount_point() / line.removeprefix("0::").lstrip("/")
    return _mount_point()


def cgroup_path(number: int) -> str:
    """The path of a cgroup below the root of cgroup2, by its id: its directory's inode number.

    For a cgroup that was removed, its id as text.
    """
    if number not in _paths:
        _walk()
    # A missing cgroup was removed after it was counted. It will not come back, so remember that.
    return _paths.setdefault(number, str(number))


_paths: dict[int, str] = {}


def _walk() -> None:
    root = _mount_point()
    for directory, _, _ in os.walk(root):
        with contextlib.suppress(OSError):  # removed in the meantime
            path = "/" + str(Path(directory).relative_to(root)).lstrip(".")
            _paths[Path(directory).stat().st_ino] = path
