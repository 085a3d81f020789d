# SPDX-License-Identifier: MIT
"""What a build root for the kernel module gets, and when a build is kept."""

import shutil
from pathlib import Path

import pytest

from tests.vm import kernel_module
from tests.vm.kernels import Kernel
from tests.vm.mirror import MirrorError

RELEASE = "6.1.0-9-amd64"
KERNEL = Kernel("6.1", RELEASE, Path("/nowhere"))


def test_the_packages_that_a_build_depends_on() -> None:
    depends = [
        "linux-headers-6.12.9+deb12-amd64",
        "  Depends: linux-headers-6.12.9+deb12-common",
        " |Depends: linux-image-6.12.9+deb12-amd64",
        "linux-headers-6.12.9+deb12-common",
        "linux-image-6.12.9+deb12-amd64",
        "linux-kbuild-6.12.9+deb12",
        "gcc-12",
        "gcc-12-base",
        "libgcc-12-dev",
    ]
    assert kernel_module.build_dependencies(depends) == [
        "gcc-12",
        "linux-headers-6.12.9+deb12-common",
        "linux-kbuild-6.12.9+deb12",
    ]


def test_the_compiler_of_sid_has_another_name() -> None:
    depends = ["gcc-16-for-host", "gcc-16-base", "gcc-16-x86-64-linux-gnu"]
    assert kernel_module.build_dependencies(depends) == ["gcc-16-for-host"]


def test_the_packages_of_a_simulated_install() -> None:
    simulation = (
        "Reading package lists...\n"
        "Inst gcc-12-base (12.2.0-14 Debian:12/stable [amd64])\n"
        "Inst make (4.3-4.1 Debian:12/stable [amd64]) []\n"
        "Conf make (4.3-4.1 Debian:12/stable [amd64])\n"
    )
    assert kernel_module.packages_to_install(simulation) == ["gcc-12-base", "make"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A cache with a build root in it; collects what is made there."""
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "Makefile").write_text("obj-m := x.o\n")
    root = tmp_path / "cache" / "modules" / "6.1"
    root.mkdir(parents=True)
    (root / "ready").write_text(f"{RELEASE}\n")
    calls: list[str] = []

    def make(root: Path, release: str, directory: str) -> None:
        calls.append(release)
        assert (root / directory.lstrip("/") / "Makefile").exists()
        (root / directory.lstrip("/") / f"{kernel_module.NAME}.ko").touch()

    monkeypatch.setattr(kernel_module, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.setattr(kernel_module, "SOURCES", sources)
    monkeypatch.setattr(kernel_module, "_make", make)
    return calls


def test_a_module_is_built_once_for_the_same_sources(made: list[str]) -> None:
    first = kernel_module.build(KERNEL)
    assert kernel_module.build(KERNEL) == first
    assert first.exists()
    assert made == [RELEASE]


def test_changed_sources_are_built_anew_beside_the_old(made: list[str]) -> None:
    first = kernel_module.build(KERNEL)
    (kernel_module.SOURCES / "Makefile").write_text("obj-m := y.o\n")
    second = kernel_module.build(KERNEL)
    assert first != second
    assert first.exists()
    assert made == [RELEASE] * 2


def test_a_failed_build_leaves_nothing_that_looks_built(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: Path, _release: str, directory: str) -> None:
        (root / directory.lstrip("/") / f"{kernel_module.NAME}.ko").touch()
        raise MirrorError("make failed")

    with monkeypatch.context() as patch:
        patch.setattr(kernel_module, "_make", fail)
        with pytest.raises(MirrorError, match="make failed"):
            kernel_module.build(KERNEL)
    kernel_module.build(KERNEL)
    assert made == [RELEASE]


def test_another_release_of_the_kernel_gets_a_new_build_root(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[str] = []

    def renew(kernel: Kernel, root: Path) -> None:
        renewed.append(kernel.release)
        shutil.rmtree(root)
        root.mkdir()
        (root / "ready").write_text(kernel.release)

    monkeypatch.setattr(kernel_module, "_renew", renew)
    kernel_module.build(KERNEL)
    kernel_module.build(Kernel("6.1", "6.1.0-10-amd64", Path("/nowhere")))
    assert renewed == ["6.1.0-10-amd64"]
    assert made == [RELEASE, "6.1.0-10-amd64"]
