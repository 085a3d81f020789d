# SPDX-License-Identifier: MIT
"""Makes Debian userlands with debootstrap in a cache, with the packages that the tests need."""

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.vm.mirror import cache_directory, find_mirror, machine_settings, run

__all__ = ["SUITES", "fetch", "versions"]

SUITES = ("bookworm", "trixie", "sid")

# The packages that setup.sh installs for the tests, without those for the VM.
PACKAGES = (
    "python3-bpfcc", "python3-venv", "bpftool", "bpftrace", "busybox-static", "ca-certificates",
    "curl", "gcc", "iproute2", "kmod", "libc6-dev", "procps", "prometheus", "strace", "util-linux",
)  # fmt: skip

INSTALL = """\
set -e
mount -t proc proc /proc
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -qy install --no-install-recommends {packages}
apt-get clean
"""


def fetch(name: str, *, refresh: bool = False) -> Path:
    """Return the root directory of release *name*, from the cache or made with the mirror."""
    cache = cache_directory() / "userlands"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / name
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = " ".join(PACKAGES)
        ready = root / "ready"
        if refresh or not (ready.exists() and ready.read_text() == wanted):
            _renew(name, root)
            ready.write_text(wanted)
    return root


def versions(root: Path) -> dict[str, str]:
    """Return the versions that differ between userlands: Python, bcc and LLVM."""
    listing = subprocess.check_output(
        ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "--show",
         "--showformat=${Package} ${Version}\n", "python3", "python3-bpfcc", "libllvm*"],
        text=True, timeout=60,
    )  # fmt: skip
    return facts(listing)


def facts(listing: str) -> dict[str, str]:
    """Make table columns from lines with a package and its version."""
    names = {"python3": "Python", "python3-bpfcc": "bcc"}
    found = {}
    for package, version in (line.split() for line in listing.splitlines() if " " in line):
        name = names.get(package, "LLVM")
        found[name] = version.split(":")[-1].split("+")[0].split("-")[0]
    return dict(sorted(found.items()))


def _renew(name: str, root: Path) -> None:
    partial = root.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    run("debootstrap", "--variant=minbase", name, str(partial), find_mirror().archive)
    settings = "\n".join(machine_settings())
    (partial / "etc/apt/apt.conf.d/99machine").write_text(settings + "\n")
    # Installing the prometheus package must not start the service.
    policy = partial / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    run(
        "unshare",
        "--mount",
        "chroot",
        str(partial),
        "sh",
        "-c",
        INSTALL.format(packages=" ".join(PACKAGES)),
    )
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)
