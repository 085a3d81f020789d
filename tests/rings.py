# SPDX-License-Identifier: MIT
"""All of `make test`: this machine's ring and the one in a virtual machine, side by side.

The machine's own tests wait more than they compute, the emulation computes; so both run at once,
the VM's lines kept back until the machine's ring is through.

    python -m tests.rings [pytest arguments for this machine's ring]
    python -m tests.rings kernels [kernel ...]
    python -m tests.rings userlands [release ...]

The second form runs the VM's ring on each of several kernels, one after another, the third one all
tests in each of several distributions' userlands; both write what was seen into docs/coverage.md.
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

# What runs in the guest: all that touches the kernel. The exporter, the page and the command line
# stand on the same session, and a compilation takes a minute there.
VM_TESTS = [
    f"tests/kernel/{name}.py"
    # Those first that make tracers of their own: the others share three, which stay to the end.
    for name in (
        "loading/test_hand_over",
        "bpf/test_in_kernel",
        "bpf/test_kernel_module",
        "bpf/test_exact",
        "bpf/test_errors",
        "bpf/test_functions",
    )
]
# What goes kernel by kernel besides: what the document has, and what depends on the kernel itself.
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
    """Run what was asked for; 0 if all passed."""
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
            print(f"\nkernel {KERNEL} in a virtual machine, kprobe and fentry:", flush=True)
            there = _follow(machine, log.name)
        finally:
            machine.terminate()
            machine.wait()
    print(f"both rings: {time.monotonic() - begun:.0f} s", flush=True)
    return here or there


def _follow(process: "subprocess.Popen[bytes]", log: str) -> int:
    """Print what it has written and goes on writing; returns its status."""
    with open(log) as text:
        while True:
            ended = process.poll() is not None
            print(text.read(), end="", flush=True)
            if ended:
                return process.returncode
            time.sleep(0.5)


def _mechanisms() -> str:
    """Which of them work here, for the head of the output."""
    words = []
    for mechanism in MECHANISMS:
        try:
            prove(mechanism)
            words.append(f"{mechanism}: yes")
        except TracerError as error:
            words.append(f"{mechanism}: no ({str(error).split(': ')[1].split(';')[0]})")
    return ", ".join(words)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    raise SystemExit(main())
