# SPDX-License-Identifier: MIT
"""Fetches Debian's stock kernels into a cache and unpacks them there; installs nothing."""

import fcntl
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm.mirror import MirrorError, PrivateApt, cache_directory

__all__ = ["SUITES", "Kernel", "fetch"]

# Kernel series → the suites that have it; the highest version among them is used.
SUITES = {
    "5.10": ("bullseye", "bullseye-security"),
    "6.1": ("bookworm", "bookworm-security"),
    "6.12": ("bookworm-backports",),
    "7.2": ("sid",),
}

# Debian splits the image of 7.x: linux-binary-* has vmlinuz, linux-modules-* the modules,
# linux-base-* the list of built-in modules.
PACKAGE = re.compile(r"linux-(image|base|binary|modules)-\d\S*$")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: *name* as in SUITES, *release* as in ``uname -r``, files below *root*."""

    name: str
    release: str
    root: Path

    @property
    def image(self) -> Path:
        """The bzImage; in the split packages it is next to the modules."""
        image = self.root / "boot" / f"vmlinuz-{self.release}"
        return image if image.exists() else self.modules / "vmlinuz"

    @property
    def modules(self) -> Path:
        """The directory that is /lib/modules/RELEASE in the guest."""
        return self.root / "lib" / "modules" / self.release


def fetch(name: str, *, refresh: bool = False) -> Kernel:
    """Return the kernel *name* from the cache, or fetch it from the mirror."""
    cache = cache_directory() / "kernels"
    with _locked(cache):
        root = cache / name
        if refresh or not (root / "ready").exists():
            _renew(name, root)
    return Kernel(name, (root / "ready").read_text().strip(), root)


def packages_to_unpack(depends: Iterable[str]) -> list[str]:
    """The packages with the image and the modules, from ``apt-cache depends --recurse``."""
    return sorted({line for line in depends if PACKAGE.match(line)})


def release_of(root: Path) -> str:
    """The release of the kernel unpacked below *root*."""
    releases = sorted(path.name for path in (root / "lib" / "modules").iterdir())
    if len(releases) != 1:
        raise MirrorError(
            f'cannot use the packages in "{root}": expected one kernel, found {releases}'
        )
    return releases[0]


def _renew(name: str, root: Path) -> None:
    partial = root.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "debs").mkdir(parents=True)
    _download(name, partial)
    for package in (partial / "debs").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, partial], check=True, timeout=300)
    if not (partial / "lib").exists():
        (partial / "lib").symlink_to("usr/lib")
    release = release_of(partial)
    subprocess.run(["depmod", "-b", partial, release], check=True, timeout=300)
    for leftover in ("debs", "apt"):
        shutil.rmtree(partial / leftover)
    (partial / "ready").write_text(release + "\n")
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)


def _download(name: str, partial: Path) -> None:
    architecture = subprocess.check_output(
        ["dpkg", "--print-architecture"], text=True, timeout=60
    ).strip()
    apt = PrivateApt(partial / "apt", SUITES[name])
    apt.update()
    depends = apt.run(
        "apt-cache", "depends", "--recurse", "--important", f"linux-image-{architecture}"
    )
    packages = packages_to_unpack(depends.splitlines())
    apt.run("apt-get", "--quiet=2", "download", *packages, cwd=partial / "debs")


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
