# SPDX-License-Identifier: MIT
"""A real in-kernel socket client and server: an NVMe/TCP target on loopback, and its host.

It needs only stock Debian modules, not nvme-cli. Everything is undone at the end, so that it can
run many times in one boot::

    with NvmeTcpLoop() as loop:
        loop.read(23, 4096)

The target closes its side of a connection in a work queue, some time after the host. Leaving the
``with`` block waits for it, so count only after the block.
"""

import argparse
import mmap
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

__all__ = ["NvmeTcpLoop", "missing"]

MODULES = ("null_blk", "nvmet-tcp", "nvme-tcp")
CONFIGFS = Path("/sys/kernel/config")
TARGET = CONFIGFS / "nvmet"


def missing() -> str:
    """Why this machine cannot run the loop and how to fix it; empty if it can."""
    if os.geteuid() != 0:
        return "NVMe/TCP needs root"
    try:
        _run("modprobe", "--dry-run", "--all", *MODULES)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return f"no modules {' '.join(MODULES)} here; make test runs this in a VM that has them"
    return ""


class NvmeTcpLoop:
    """Serves a null_blk device over NVMe/TCP on 127.0.0.1:*port* and connects to it."""

    def __init__(self, name: str = "loop", port: int = 4420, timeout: float = 120) -> None:
        self.name = name
        self.port = port
        self.timeout = timeout
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        try:
            _load_modules()
            self._make_subsystem()
            self._make_port()
            self._connect()
        except BaseException:
            self._undo_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo_all()

    def read(self, count: int, size: int = 4096) -> int:
        """Read *count* times *size* bytes bypassing the page cache; returns the bytes read."""
        device = os.open(self.device(), os.O_RDONLY | os.O_DIRECT)
        try:
            with mmap.mmap(-1, size) as buffer:  # O_DIRECT needs an aligned buffer
                return sum(os.preadv(device, [buffer], at * size) for at in range(count))
        finally:
            os.close(device)

    def device(self) -> Path:
        """Return the block device; wait for it, as it appears some time after connect returns."""
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            for entry in Path("/sys/block").glob("nvme*"):
                nqn = entry / "device" / "subsysnqn"
                node = Path("/dev") / entry.name
                if node.exists() and nqn.exists() and nqn.read_text().strip() == self.name:
                    return node
            time.sleep(0.01)
        raise TimeoutError(
            f'cannot find the block device of "{self.name}": not there within {self.timeout:.0f} s'
        )

    def _make_subsystem(self) -> None:
        subsystem = TARGET / "subsystems" / self.name
        self._directory(subsystem)
        (subsystem / "attr_allow_any_host").write_text("1")
        namespace = subsystem / "namespaces" / "1"
        self._directory(namespace)
        (namespace / "device_path").write_text("/dev/nullb0")
        (namespace / "enable").write_text("1")

    def _make_port(self) -> None:
        port = TARGET / "ports" / str(self.port)
        self._directory(port)
        (port / "addr_trtype").write_text("tcp")
        (port / "addr_adrfam").write_text("ipv4")
        (port / "addr_traddr").write_text("127.0.0.1")
        (port / "addr_trsvcid").write_text(str(self.port))
        link = port / "subsystems" / self.name
        link.symlink_to(TARGET / "subsystems" / self.name)  # from here on, it listens
        self._undo.append(link.unlink)

    def _connect(self) -> None:
        # One open file carries the request and the answer, "instance=0,cntlid=1".
        fabrics = os.open("/dev/nvme-fabrics", os.O_RDWR)
        try:
            request = f"transport=tcp,traddr=127.0.0.1,trsvcid={self.port},nqn={self.name}"
            os.write(fabrics, request.encode())
            answer = os.read(fabrics, 4096).decode()
        finally:
            os.close(fabrics)
        instance = dict(pair.split("=") for pair in answer.strip().split(","))["instance"]
        delete = Path(f"/sys/class/nvme/nvme{instance}/delete_controller")
        self._undo.append(lambda: delete.write_text("1"))
        self.device()

    def _directory(self, path: Path) -> None:
        path.mkdir()
        self._undo.append(path.rmdir)

    def _undo_all(self) -> None:
        while self._undo:
            self._undo.pop()()


def _load_modules() -> None:
    _run("modprobe", "null_blk", "nr_devices=1", "gb=1")
    _run("modprobe", "--all", *MODULES)
    if not CONFIGFS.is_mount():
        _run("mount", "-t", "configfs", "configfs", str(CONFIGFS))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=120)


def main() -> None:
    """Connect, read and disconnect, the given number of times."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--reads", type=int, default=256, help="of 4 KiB (default: %(default)s)")
    parser.add_argument("--times", type=int, default=1, help="default: %(default)s")
    options = parser.parse_args()
    for _ in range(options.times):
        with NvmeTcpLoop() as loop:
            print(f"{loop.device()}: read {loop.read(options.reads)} bytes", flush=True)


if __name__ == "__main__":
    main()
