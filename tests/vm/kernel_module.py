# SPDX-License-Identifier: MIT
"""Builds the kernel module of tests/vm/module for one of the ring's kernels.

Each kernel gets a build root in the cache: its headers, the compiler that Debian built it with,
make and a shell, unpacked from the mirror and entered by chroot. So nothing is installed, the
host's compiler does not matter, and the absolute paths in Debian's headers are right.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm.kernels import SUITES, Kernel
from tests.vm.mirror import MirrorError, PrivateApt, cache_directory, run

__all__ = ["NAME", "SOURCES", "VARIABLE", "build", "build_dependencies", "packages_to_install"]

NAME = "lunatik_socket_test"
VARIABLE = "LUNATIK_SOCKET_TEST_MODULE"
"""The environment variable that tells the guest where the built module is."""

SOURCES = Path(__file__).with_name("module")

# Backports have the kernel, but not the compiler.
COMPILER_SUITES = {"6.12": ("bookworm", "bookworm-security")}

# What the kernel's makefiles call besides the compiler.
TOOLS = ("coreutils", "dash", "findutils", "grep", "make", "mawk", "sed")

NEEDED = re.compile(r"(linux-headers-\S+-common|linux-kbuild-\S+|gcc-\d+(-for-host)?)$")
INSTALL_LINE = re.compile(r"^Inst (\S+) ", re.MULTILINE)

# In a mount namespace that ends with it. The makefiles write to /dev/null, and 7.2's objtool reads
# /proc/self/limits.
ENTER = 'for tree in dev proc; do mount --rbind "/$tree" "$1/$tree"; done; exec chroot "$@"'
BUILD_SECONDS = 300


def build(kernel: Kernel, *, refresh: bool = False) -> Path:
    """Return the module built for *kernel*; from the cache if the sources are the same."""
    root = cache_directory() / "modules" / kernel.name
    with _locked(root.parent):
        ready = root / "ready"
        if refresh or not ready.exists() or ready.read_text().strip() != kernel.release:
            _renew(kernel, root)
        return _build_in(root, kernel.release)


def build_dependencies(depends: Iterable[str]) -> list[str]:
    """Pick what a build needs from ``apt-cache depends --recurse`` of the headers.

    Not all of it: in 6.12 the headers depend on the image, and that on all that boots one.
    """
    return sorted({line for line in depends if NEEDED.match(line)})


def packages_to_install(simulation: str) -> list[str]:
    """Take the packages from the output of ``apt-get --simulate install``."""
    return sorted(INSTALL_LINE.findall(simulation))


def _build_in(root: Path, release: str) -> Path:
    """Build in a directory of the sources' own, since several checkouts share the cache."""
    texts = {path.name: path.read_bytes() for path in sorted(SOURCES.iterdir())}
    digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:16]
    directory = root / "build" / digest
    module = directory / f"{NAME}.ko"
    if module.exists():
        return module
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, text in texts.items():
        (directory / name).write_bytes(text)
    try:
        _make(root, release, f"/build/{digest}")
    except BaseException:
        shutil.rmtree(directory)
        raise
    return module


def _make(root: Path, release: str, directory: str) -> None:
    namespaces = ["--mount"] if os.geteuid() == 0 else ["--map-root-user", "--mount"]
    run(
        "timeout", str(BUILD_SECONDS),
        "unshare", *namespaces, "sh", "-ec", ENTER, "sh", str(root),
        "make", "-s", "-C", f"/usr/src/linux-headers-{release}", f"M={directory}", "modules",
        # The module's own types are of no use to anyone, and 6.12 would want pahole for them.
        "CONFIG_DEBUG_INFO_BTF_MODULES=",
        PATH="/usr/sbin:/usr/bin:/sbin:/bin",
    )  # fmt: skip


def _renew(kernel: Kernel, root: Path) -> None:
    partial = root.with_name(f"{kernel.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for directory in ("debs", "dev", "proc", "tmp", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"):
        (partial / directory).mkdir(parents=True)
    # As on every Debian since 12, so that packages from before and after it fit together.
    for name in ("bin", "sbin", "lib", "lib64"):
        (partial / name).symlink_to(f"usr/{name}")
    _download(kernel, partial)
    for package in sorted((partial / "debs").glob("*.deb")):
        _unpack(package, partial)
    # These two are made by the packages' scripts, which have not run.
    for name, target in (("sh", "dash"), ("awk", "mawk")):
        if not (link := partial / "usr" / "bin" / name).exists():
            link.symlink_to(target)
    for leftover in ("debs", "apt", "usr/share/doc", "usr/share/man", "usr/share/locale"):
        shutil.rmtree(partial / leftover, ignore_errors=True)
    (partial / "ready").write_text(kernel.release + "\n")
    shutil.rmtree(root, ignore_errors=True)
    partial.rename(root)


def _download(kernel: Kernel, partial: Path) -> None:
    apt = PrivateApt(partial / "apt", SUITES[kernel.name] + COMPILER_SUITES.get(kernel.name, ()))
    apt.update()
    headers = f"linux-headers-{kernel.release}"
    try:
        depends = apt.run("apt-cache", "depends", "--recurse", "--important", headers).splitlines()
    except MirrorError as error:
        raise MirrorError(
            f'cannot find "{headers}" on the mirror: it may have a newer kernel by now; '
            f"run python -m tests.vm.ring --refresh {kernel.name}"
        ) from error
    simulation = apt.run(
        "apt-get", "--simulate", "--no-install-recommends", "install",
        *build_dependencies(depends), *TOOLS,
    )  # fmt: skip
    packages = [headers, *packages_to_install(simulation)]
    apt.run("apt-get", "--quiet=2", "download", *packages, cwd=partial / "debs")


def _unpack(package: Path, root: Path) -> None:
    """As ``dpkg -x``, but through the links of *root*: /bin may be one."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["tar", "-x", "--keep-directory-symlink", "-C", root],
            stdin=tar.stdout, check=True, timeout=300,
        )  # fmt: skip
    if tar.returncode:
        raise MirrorError(f'cannot unpack "{package}": dpkg-deb ended with {tar.returncode}')


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
