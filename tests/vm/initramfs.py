# SPDX-License-Identifier: MIT
"""Builds the guest's initramfs: busybox, the modules needed to mount the host's files, init.sh."""

import lzma
import shlex
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.vm.kernels import Kernel

__all__ = ["Archive", "build"]

# For the PCI bus, the host's file system, the overlay over it, and the output.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console")
INIT = Path(__file__).with_name("init.sh")


class Archive:
    """A cpio archive in the "newc" format that the kernel unpacks.

    Its layout is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def directory(self, path: str) -> None:
        """Add a directory; its parents must have been added before."""
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, content: bytes) -> None:
        """Add an executable file."""
        self._add(path, stat.S_IFREG | 0o755, content)

    def finish(self) -> bytes:
        """Close the archive and return it."""
        self._add("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _add(self, path: str, mode: int, content: bytes) -> None:
        name = path.encode() + b"\0"
        inode = len(self._parts) + 1 if mode else 0
        # inode, mode, uid, gid, links, mtime, size, 4 device numbers, size of the name, checksum
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts.append(_padded(header + name) + _padded(content))


def build(kernel: Kernel, show_stacks_after: Sequence[float]) -> bytes:
    """Return the initramfs for *kernel*.

    The guest prints blocked tasks and the CPUs' stacks after each of these numbers of seconds.
    """
    archive = Archive()
    for directory in ("bin", "modules"):
        archive.directory(directory)
    archive.file("bin/busybox", _busybox().read_bytes())
    for number, module in enumerate(_modules(kernel)):
        archive.file(f"modules/{number:02}-{module.name.removesuffix('.xz')}", _plain(module))
    archive.file("parameters", _parameters(kernel, show_stacks_after).encode())
    archive.file("init", INIT.read_bytes())
    return archive.finish()


def insmod_order(listing: str) -> list[Path]:
    """The module files in the output of ``modprobe --show-depends``, each once and in order."""
    lines = (line.split() for line in listing.splitlines())
    return list(dict.fromkeys(Path(line[1]) for line in lines if line[:1] == ["insmod"]))


def _modules(kernel: Kernel) -> list[Path]:
    listing = subprocess.check_output(
        ["modprobe", "-d", kernel.root, "-S", kernel.release, "-a", "--show-depends", *MODULES],
        text=True, timeout=60,
    )  # fmt: skip
    return insmod_order(listing)


def _parameters(kernel: Kernel, show_stacks_after: Sequence[float]) -> str:
    values = {
        "kernel_release": kernel.release,
        "kernel_modules": str(kernel.modules),
        "show_stacks_after": " ".join(f"{seconds:.0f}" for seconds in show_stacks_after),
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _plain(module: Path) -> bytes:
    content = module.read_bytes()
    return lzma.decompress(content) if module.suffix == ".xz" else content


def _busybox() -> Path:
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError('cannot find "busybox": install busybox-static')
    return Path(found)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
