# SPDX-License-Identifier: MIT
"""What the test rings choose: mirror, packages, modules, arguments, pip's settings."""

import subprocess
from pathlib import Path

import pytest

from tests.userlands import pip_settings, rootfs
from tests.vm import kernels
from tests.vm.command import PROJECT, pytest_command, split
from tests.vm.initramfs import Archive, insmod_order
from tests.vm.mirror import Mirror, MirrorError, choose_mirror


def test_the_first_debian_archive_and_the_security_archive_are_chosen() -> None:
    mirror = choose_mirror(
        [
            ["nodistro", "https://third.example/node"],
            ["bookworm-security", "http://mirror.example/debian-security/"],
            ["bookworm", "http://mirror.example/debian/"],
            ["bookworm-updates", "http://other.example/debian/"],
        ]
    )
    assert mirror.source("sid") == "deb http://mirror.example/debian/ sid main"
    assert (
        mirror.source("bullseye-security")
        == "deb http://mirror.example/debian-security/ bullseye-security main"
    )


def test_a_machine_may_have_no_security_archive() -> None:
    mirror = choose_mirror([["trixie", "http://mirror.example/debian/"]])
    assert mirror == Mirror("http://mirror.example/debian/", None)
    assert mirror.source("bookworm-security") is None


def test_a_machine_without_a_debian_mirror_is_an_error_with_a_hint() -> None:
    with pytest.raises(MirrorError, match="run it on Debian"):
        choose_mirror([["noble", "http://mirror.example/ubuntu/"]])


def test_the_package_of_a_single_kernel_image_is_chosen() -> None:
    depends = ["linux-image-amd64", "  Depends: linux-image-6.1.0-56-amd64", "kmod", "linux-base"]
    assert kernels.packages_to_unpack([*depends, "linux-image-6.1.0-56-amd64"]) == [
        "linux-image-6.1.0-56-amd64"
    ]


def test_all_packages_of_a_split_kernel_image_are_chosen() -> None:
    parts = [f"linux-{part}-7.2.13+deb14-amd64" for part in ("base", "binary", "image", "modules")]
    others = ["linux-base-amd64", "linux-image-amd64", "initramfs-tools"]
    assert kernels.packages_to_unpack([*others, *reversed(parts)]) == parts


def test_a_module_is_loaded_once_and_after_its_dependencies() -> None:
    listing = "builtin virtio\ninsmod /m/ring.ko \ninsmod /m/pci.ko \ninsmod /m/ring.ko \n\n"
    assert insmod_order(listing) == [Path("/m/ring.ko"), Path("/m/pci.ko")]


def test_cpio_can_read_the_archive(tmp_path: Path) -> None:
    archive = Archive()
    archive.directory("bin")
    archive.file("bin/odd", b"12345")
    archive.file("empty", b"")
    subprocess.run(
        ["busybox", "cpio", "-idm"], input=archive.finish(), cwd=tmp_path, check=True, timeout=30,
        capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "bin/odd").read_bytes() == b"12345"
    assert (tmp_path / "bin/odd").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "empty").read_bytes() == b""


def test_arguments_are_split_at_the_first_double_dash() -> None:
    assert split(["6.1", "--", "-k", "a", "--", "b"]) == (["6.1"], ["-k", "a", "--", "b"])
    assert split(["6.1"]) == (["6.1"], [])


def test_pytest_gets_the_default_path_unless_one_is_given() -> None:
    def command(*arguments: str) -> str:
        return pytest_command("py", arguments, "/r/x.xml", timeout=600, default=["tests/kernel"])

    assert command("-k", "a b").startswith(f"cd {PROJECT} && py -m pytest ")
    assert command("-k", "a b").endswith(" -k 'a b' tests/kernel")
    assert command("tests/pure::x").endswith(" tests/pure::x")


def test_the_environment_overrides_the_file_in_pip_settings() -> None:
    settings = pip_settings.parse(
        [
            ":env:.timeout='180'",
            "global.timeout='5'",
            "global.extra-index-url='file:///a/simple\\nhttps://user@b/simple'",
            "freeze.path='/p'",
        ]
    )
    assert settings == {
        "timeout": "180",
        "extra-index-url": "file:///a/simple\nhttps://user@b/simple",
    }
    assert pip_settings.configuration(settings) == (
        "[global]\nextra-index-url = file:///a/simple https://user@b/simple\ntimeout = 180\n"
    )


def test_local_paths_of_pip_are_returned_with_the_parent_of_an_index(tmp_path: Path) -> None:
    for name in ("index/simple", "wheels"):
        (tmp_path / name).mkdir(parents=True)
    certificate = tmp_path / "ca.crt"
    certificate.touch()
    settings = {
        "index-url": f"file://{tmp_path}/index/simple",
        "find-links": f"{tmp_path}/wheels {tmp_path}/gone",
        "cert": str(certificate),
        "timeout": "180",
    }
    assert pip_settings.local_paths(settings) == [
        certificate, tmp_path / "index", tmp_path / "wheels",
    ]  # fmt: skip


def test_the_facts_of_a_userland_are_its_python_bcc_and_llvm() -> None:
    listing = "libllvm19 1:19.1.7-3+b1\npython3 3.13.5-1\npython3-bpfcc 0.31.0+ds-7\n"
    assert rootfs.facts(listing) == {"LLVM": "19.1.7", "Python": "3.13.5", "bcc": "0.31.0"}
