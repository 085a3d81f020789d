# SPDX-License-Identifier: MIT
"""What `make dist` builds: complete, the same again, and working in any virtual environment."""

import hashlib
import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from tracer import __version__

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
BUILD_SECONDS = 900
RUN_SECONDS = 120


def run(*command: str | Path) -> str:
    done = subprocess.run(
        command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=BUILD_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sums() -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(DIST.iterdir())
        if path.name != "SHA256SUMS"
    }


@pytest.fixture(scope="module")
def built() -> dict[str, str]:
    """The checksum of each file."""
    run(ROOT / "packaging/build-dist")
    return sums()


@pytest.fixture(scope="module")
def wheel(built: dict[str, str]) -> Path:
    (name,) = (name for name in built if name.endswith(".whl"))
    return DIST / name


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that does not see the packages of the system."""
    place = tmp_path_factory.mktemp("venv")
    run("/usr/bin/python3", "-m", "venv", place)
    run(place / "bin/python", "-m", "pip", "--disable-pip-version-check", "-q", "install", wheel)
    return place


def test_the_checksums_are_of_every_file(built: dict[str, str]) -> None:
    lines = (DIST / "SHA256SUMS").read_text().splitlines()
    assert dict(line.split()[::-1] for line in lines) == built


def test_the_wheel_is_the_same_when_it_is_built_again(wheel: Path, tmp_path: Path) -> None:
    seconds = run("git", "-C", ROOT, "log", "-1", "--format=%ct").strip()
    run(
        "env", f"SOURCE_DATE_EPOCH={seconds}", ROOT / ".venv/bin/python", "-m", "build", "--wheel",
        "--no-isolation", "--outdir", tmp_path, ROOT,
    )  # fmt: skip
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_wheel_has_every_file_that_the_program_needs(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("lunatik_socket", "tracer")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    moved = {
        f"tracer/{path.relative_to(ROOT)}"
        for folder in ("bpf", "dashboards/grafana", "dashboards/prometheus")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        assert wanted | moved <= set(archive.namelist())


def test_the_metadata_are_valid_and_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = Metadata.from_email(archive.read(name), validate=True)
    assert found.description
    for field in ("summary", "author", "license_expression", "keywords", "classifiers"):
        assert getattr(found, field), field
    assert str(found.version) == __version__


def test_the_wheel_can_be_built_from_the_source_archive(
    built: dict[str, str], wheel: Path, tmp_path: Path
) -> None:
    (name,) = (name for name in built if name.endswith(".tar.gz"))
    run("tar", "-x", "-f", DIST / name, "-C", tmp_path)
    (tree,) = tmp_path.iterdir()
    run(
        ROOT / ".venv/bin/python", "-m", "build", "--wheel", "--no-isolation", "--outdir",
        tmp_path, tree,
    )  # fmt: skip
    with zipfile.ZipFile(tmp_path / wheel.name) as again, zipfile.ZipFile(wheel) as first:
        assert again.namelist() == first.namelist()


def test_the_sbom_lists_what_the_wheel_installs(venv: Path) -> None:
    document = json.loads(next(DIST.glob("*.cdx.json")).read_text())
    installed = json.loads(run(venv / "bin/python", "-m", "pip", "list", "--format", "json"))
    names = {canonical(one["name"]) for one in installed} - {"pip", "setuptools", "lunatik-socket"}
    assert {canonical(one["name"]) for one in document["components"]} == names
    assert document["metadata"]["component"]["name"] == "lunatik-socket"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_sbom_names_no_index_of_the_machine_that_built_it() -> None:
    text = next(DIST.glob("*.cdx.json")).read_text()
    settings = run(ROOT / ".venv/bin/python", "-m", "pip", "config", "list")
    own = set(re.findall(r"https?://([^/'\s]+)", settings)) - {"pypi.org"}
    assert not [host for host in own if host.rpartition("@")[2] in text]
    assert "file:" not in text
    assert str(ROOT) not in text


def test_the_command_works_in_a_virtual_environment_without_the_systems_packages(
    venv: Path,
) -> None:
    program = venv / "bin/lunatik-socket"
    assert run(program, "--version") == f"lunatik-socket {__version__}\n"
    assert json.loads(run(program, "doctor", "--selftest", "--json"))["ok"] is True
