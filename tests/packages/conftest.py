# SPDX-License-Identifier: MIT
"""The packages are built once; each release gets one system with the package installed."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.roots import SUITES, Root

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 600
NEWER = "0.1.1~test"


def built(*version: str) -> Path:
    done = subprocess.run(
        [ROOT / "packaging/build-deb", *version],
        capture_output=True, text=True, check=False, timeout=BUILD_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / done.stdout.splitlines()[-1]


@pytest.fixture(scope="session")
def package() -> Path:
    """The Debian package of this tree."""
    return built()


@pytest.fixture(scope="session")
def newer_package(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with a higher version."""
    kept = tmp_path_factory.mktemp("newer") / "lunatik-socket.deb"
    made = built(NEWER)
    kept.write_bytes(made.read_bytes())
    made.unlink()
    assert package.exists()
    return kept


@pytest.fixture(scope="module", params=SUITES)
def system(
    request: pytest.FixtureRequest, package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Root]:
    """A fresh system with the package installed by apt from the release's own packages."""
    if os.geteuid() != 0:
        pytest.fail("the packages are installed with chroot: run as root")
    with Root(request.param, tmp_path_factory.mktemp(request.param)) as root:
        root.run("apt-get -q update")
        root.put(package, "/tmp/lunatik-socket.deb")
        root.run(
            "apt-get install -qy --no-install-recommends /tmp/lunatik-socket.deb curl bash fish zsh"
        )
        yield root
