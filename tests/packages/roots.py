# SPDX-License-Identifier: MIT
"""Fresh Debian systems in directories, made with debootstrap, to install packages in.

The system made by debootstrap stays in a cache. A test gets an overlay over it, in a mount
namespace that ends with a holder process, so that nothing stays behind, however a test ends.
"""

import contextlib
import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.vm.mirror import cache_directory, find_mirror, machine_settings
from tests.vm.mirror import run as run_with_mirror

__all__ = ["SUITES", "Root", "base"]

SUITES = ("bookworm", "trixie")
INCLUDE = "systemd,systemd-sysv,ca-certificates"
TIMEOUT_SECONDS = 900
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}

# In a namespace of its own: the overlay, the kernel's file systems, and what the network needs.
MOUNT = """\
set -e
mkdir -p "$2/upper" "$2/work" "$2/root" "$3"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
for tree in /proc /sys /dev; do mount --rbind "$tree" "$2/root$tree"; done
mount -t tmpfs -o mode=755 tmpfs "$2/root/run"
for path in /etc/resolv.conf /etc/hosts /etc/ssl/certs; do
	[ -d "$path" ] || : >>"$2/root$path"
	mount --bind "$path" "$2/root$path"
done
mount --bind "$3" "$2/root/var/cache/apt/archives"
echo ready
exec sleep infinity
"""


def base(suite: str) -> Path:
    """The directory of a fresh system of this release, from the cache or made with the mirror."""
    cache = cache_directory() / "packages"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"{suite}-system"
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _make(suite, root)
    return root


def _make(suite: str, root: Path) -> None:
    partial = root.with_name(f"{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    run_with_mirror(
        "debootstrap", "--variant=minbase", f"--include={INCLUDE}", suite, str(partial),
        find_mirror().archive,
    )  # fmt: skip
    settings = [
        *machine_settings(),
        "APT::Keep-Downloaded-Packages true;",
        "APT::Sandbox::User root;",
    ]
    (partial / "etc/apt/apt.conf.d/99machine").write_text("\n".join(settings) + "\n")
    # No init runs in a chroot: a package must not start its service there.
    policy = partial / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    partial.rename(root)


class Root:
    """A fresh system of the release *suite*; what a test changes is kept in *scratch*."""

    def __init__(self, suite: str, scratch: Path) -> None:
        self.suite = suite
        self.path = scratch / "root"
        archives = cache_directory() / "packages" / f"{suite}-archives"
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNT, "sh",
             str(base(suite)), str(scratch), str(archives)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", "cannot mount the overlay: see above"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()

    def beside(self, *command: str) -> list[str]:
        """The command line that runs *command* where `path` shows the system."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *command]

    def command(self, *command: str) -> list[str]:
        """The command line that runs *command* inside."""
        settings = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        return self.beside("env", "-i", *settings, "chroot", str(self.path), *command)

    def run(self, script: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a shell script inside; its output is text, standard error included."""
        done = subprocess.run(
            self.command("sh", "-ec", script),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=TIMEOUT_SECONDS,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{script}\n{done.stdout[-5000:]}"
        return done

    def put(self, source: Path, target: str) -> None:
        """Copy a file of this machine to the path *target* inside."""
        with source.open("rb") as stdin:
            subprocess.run(
                self.command("sh", "-c", 'cat >"$1"', "sh", target),
                stdin=stdin, check=True, timeout=TIMEOUT_SECONDS,
            )  # fmt: skip

    @contextlib.contextmanager
    def started(self, *command: str) -> "Iterator[subprocess.Popen[str]]":
        """Run a program inside in the background; it is killed when the block ends."""
        process = subprocess.Popen(
            self.command(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()
