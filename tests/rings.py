# SPDX-License-Identifier: MIT
"""`make test`: the test ring on this machine and the one in a virtual machine, at the same time.

The tests on this machine mostly wait, and the emulation mostly computes, so running both at once
saves time. The output of the VM is printed after that of this machine.

    python -m tests.rings [pytest arguments for this machine's ring]
    python -m tests.rings kernels [kernel ...]
    python -m tests.rings userlands [release ...]

The second form runs the kernel tests on several kernels in VMs, one after another. The third form
runs all tests in the userlands of several Debian releases. Both write their results into
docs/coverage.md.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tracer.errors import TracerError
from tracer.kernel.mechanisms import MECHANISMS, prove

__all__: list[str] = []

# The tests that run in the VM: those that depend on the kernel. The exporter, the page and the
# command line use the same session, and compiling one more takes a minute there.
VM_TESTS = [
    f"tests/kernel/{name}.py"
    # First those that start tracers of their own. The others share three, which run to the end.
    for name in (
        "loading/test_hand_over",
        "bpf/test_in_kernel",
        "bpf/test_kernel_module",
        "bpf/test_exact",
        "bpf/test_errors",
        "bpf/test_functions",
    )
]
# Further tests for `kernels`: those whose results are in the document or differ between kernels.
KERNEL_TESTS = [
    f"tests/kernel/{name}.py"
    for name in (
        "bpf/test_coverage",
        "bpf/test_calls_at_the_edge",
        "bpf/test_threads",
        "bpf/test_cost",
    )
]
KERNEL = "6.1"


def main() -> int:
    """Run the rings that the arguments name; returns 0 if all tests passed."""
    if sys.argv[1:2] == ["kernels"]:
        return _documented("tests.vm.ring", *sys.argv[2:], "--", "-q", *VM_TESTS, *KERNEL_TESTS)
    if sys.argv[1:2] == ["userlands"]:
        return _documented("tests.userlands.ring", *sys.argv[2:], "--", "-q")
    return _both(sys.argv[1:])


def _documented(ring: str, *arguments: str) -> int:
    command = [sys.executable, "-m", ring, *arguments]
    status = subprocess.call(command, stdin=subprocess.DEVNULL)
    return subprocess.call([sys.executable, "-m", "docs.generate.coverage_page"]) or status


def _both(arguments: list[str]) -> int:
    print(f"this machine: kernel {platform.release()}, {_mechanisms()}", flush=True)
    print(f"kernel {KERNEL} in a virtual machine: runs meanwhile, output below", flush=True)
    begun = time.monotonic()
    with tempfile.NamedTemporaryFile() as log:
        machine = subprocess.Popen(
            [sys.executable, "-m", "tests.vm.ring", KERNEL, "--", "-q", *VM_TESTS],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            here = subprocess.call(
                [sys.executable, "-m", "pytest", "tests/pure", "tests/kernel", *arguments]
            )
            print(f"\nthis machine: {time.monotonic() - begun:.0f} s", flush=True)
            print(f"\nkernel {KERNEL} in a virtual machine, kprobe and fentry:", flush=True)
            there = _follow(machine, log.name)
        finally:
            machine.terminate()
            machine.wait()
    print(f"both rings: {time.monotonic() - begun:.0f} s", flush=True)
    return here or there


def _follow(process: "subprocess.Popen[bytes]", log: str) -> int:
    """Print the log until the process ends; returns its exit status."""
    with open(log) as text:
        while True:
            ended = process.poll() is not None
            print(text.read(), end="", flush=True)
            if ended:
                return process.returncode
            time.sleep(0.5)


def _mechanisms() -> str:
    """Which mechanisms work on this machine, for the first line of the output."""
    words = []
    for mechanism in MECHANISMS:
        try:
            prove(mechanism)
            words.append(f"{mechanism}: yes")
        except TracerError as error:
            words.append(f"{mechanism}: no ({error.reason})")
    return ", ".join(words)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    raise SystemExit(main())
