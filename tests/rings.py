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
# command line use the same session, and compiling one more takes long there.
VM_TESTS = [
    f"tests/kernel/{name}"
    # First those that start tracers of their own. The others share three, which run to the end.
    for name in (
        "loading/test_hand_over.py::test_sigkill_leaves_nothing",
        "loading/test_hand_over.py"
        "::test_probes_of_a_dead_tracer_are_removed_and_those_of_a_live_one_stay",
        "bpf/test_in_kernel.py",
        "bpf/test_kernel_module.py",
        # Each filter and each label
        "bpf/test_filters.py::test_process",
        "bpf/test_filters.py::test_patterns_of_names_of_threads[pattern and name]",
        "bpf/test_filters.py::test_cgroup_made_anew",
        "bpf/test_labels.py::test_labels_and_filters_of_functions",
        "bpf/test_label_port.py",
        "bpf/test_exact.py",
        "bpf/test_errors.py",
        "bpf/test_functions.py",
    )
]
# Further tests for `kernels`: those whose results are in the document or differ between kernels.
KERNEL_TESTS = [
    f"tests/kernel/{name}"
    for name in (
        "bpf/test_filters.py::test_pid_max_raised_while_tracing",
        "bpf/test_labels.py::test_label_pid_beyond_the_cap_is_other",
        "bpf/test_labels.py::test_label_values_and_not_cells_are_limited",
        "bpf/test_labels.py::test_labels_with_the_same_text_are_one_series_and_others_are_not",
        "bpf/test_in_flight_by_label.py"
        "::test_a_call_in_flight_has_the_label_with_which_it_counts_later[port]",
        "bpf/test_coverage.py",
        "bpf/test_calls_at_the_edge.py",
        "bpf/test_threads.py",
        "bpf/test_cost.py",
    )
]
KERNEL = "6.1"


def main() -> int:
    """Run the rings that the arguments name; returns 0 if all tests passed."""
    if sys.argv[1:2] == ["kernels"]:
        return _documented("tests.vm.ring", *sys.argv[2:], "--", *VM_TESTS, *KERNEL_TESTS)
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
            [sys.executable, "-m", "tests.vm.ring", KERNEL, "--", *VM_TESTS],
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
