# SPDX-License-Identifier: MIT
"""The service of the Debian package in a virtual machine that boots systemd.

One boot for each release; service.sh makes all checks there, and each is a test here.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.packages.roots import Root
from tests.vm import kernels, machine

HERE = Path(__file__).parent
CHECKS = re.findall(r"^(\w+)\(\) \{", (HERE / "service.sh").read_text(), re.MULTILINE)
HELPERS = {"check", "pid", "status", "scrape", "is_active"}
KERNELS = {"bookworm": "6.1", "trixie": "6.12"}
BOOT_SECONDS = 1500
LIMIT = 2.0

pytestmark = pytest.mark.timeout(BOOT_SECONDS + 600)


@pytest.fixture(scope="module")
def lines(system: Root, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What service.sh printed in the guest."""
    printed: list[str] = []

    def on_line(line: str) -> None:
        print(line, flush=True)
        printed.append(line)

    results = tmp_path_factory.mktemp(f"vm-{system.suite}")
    kernel = kernels.fetch(KERNELS[system.suite])
    # The guest looks for the modules of its kernel where the host has them.
    there = f"{system.path}{kernel.modules}"
    for command in (["mkdir", "-p", there], ["mount", "--bind", str(kernel.modules), there]):
        subprocess.run(system.beside(*command), check=True, timeout=60)
    machine.run(
        kernel, (HERE / "service.sh").read_text(), results,
        timeout=BOOT_SECONDS, on_line=on_line, files=system.path, within=system.beside(),
        init=(HERE / "boot.sh").read_text(),
    )  # fmt: skip
    return printed


@pytest.mark.parametrize("check", [name for name in CHECKS if name not in HELPERS])
def test_the_service(lines: list[str], check: str) -> None:
    assert f"ok {check}" in lines, "\n".join(lines)


def test_the_unit_is_hardened() -> None:
    unit = HERE.parents[1] / "packaging/systemd/lunatik-socket.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found = re.search(r"exposure level for lunatik-socket.service: ([0-9.]+)", done.stdout)
    assert found
    assert float(found[1]) < LIMIT
    assert "ignoring" not in done.stderr
