# SPDX-License-Identifier: MIT
"""Run the kernel tests on other kernels: ``python -m tests.vm.ring 6.1 6.12 -- -k kprobe``."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.vm import kernel_module, kernels, machine
from tests.vm.command import Place, main, pytest_command
from tests.vm.kernels import Kernel

__all__: list[str] = []

TESTS = ("tests/kernel",)
# Under emulation a test takes ten to twenty times as long as on the host.
TEST_TIMEOUT_SECONDS = 600


def prepare(name: str, refresh: bool) -> Place:
    """Fetch a kernel if it is not in the cache, and return it as a place to run in."""
    kernel = kernels.fetch(name, refresh=refresh)
    module = kernel_module.build(kernel, refresh=refresh)

    def run(
        arguments: Sequence[str], results: Path, timeout: float, on_line: Callable[[str], None]
    ) -> int:
        return machine.run(
            kernel, command(kernel, module, arguments), results, timeout=timeout, on_line=on_line
        )

    return Place({"release": kernel.release}, run)


def command(kernel: Kernel, module: Path, arguments: Sequence[str]) -> str:
    """Return the command for the guest: pytest, with kernel and module in the environment."""
    pytest = pytest_command(
        sys.executable, arguments, "/run/results/junit.xml",
        timeout=TEST_TIMEOUT_SECONDS, default=TESTS,
    )  # fmt: skip
    ring = shlex.quote(f"kernel/{kernel.name}")
    return (
        f"export LUNATIK_SOCKET_RING={ring} {kernel_module.VARIABLE}={shlex.quote(str(module))}\n"
        f"({pytest})"
    )


if __name__ == "__main__":
    # A guest has two CPUs, but hardly ever something to do for both.
    raise SystemExit(
        main("kernel", __doc__, list(kernels.SUITES), prepare, jobs=os.cpu_count() or 1)
    )
