# SPDX-License-Identifier: MIT
"""The lock file, the hooks and the files for GitHub agree with pyproject.toml and the Makefile."""

import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
GITHUB = sorted((ROOT / ".github").rglob("*.yml"))


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def recipe(target: str) -> list[str]:
    text = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin")
    text = text.replace("$(PYTHON)", ".venv/bin/python")
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert found, target
    return [line.strip().removeprefix("@") for line in found[1].splitlines()]


def hooks() -> list[dict[str, Any]]:
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    return list(repository["hooks"])


def requirements() -> dict[str, tuple[Requirement, list[str]]]:
    """Every requirement of the lock file by name, with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "requirements-dev.lock").read_text(), flags=re.M)
    found = {}
    for entry in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split("--hash=")
        parsed = Requirement(requirement.strip())
        found[canonicalize_name(parsed.name)] = parsed, [digest.strip() for digest in hashes]
    return found


def test_every_package_is_locked_to_a_version_within_its_bounds() -> None:
    locked = requirements()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for line in project["project"]["dependencies"] + project["dependency-groups"]["dev"]:
        wanted = Requirement(line)
        (pin,) = locked[canonicalize_name(wanted.name)][0].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), f"{line}: make lock"


def test_every_locked_package_has_hashes() -> None:
    for requirement, hashes in requirements().values():
        assert hashes, requirement
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in hashes)


def test_the_lock_file_names_no_host_and_no_index() -> None:
    text = (ROOT / "requirements-dev.lock").read_text()
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|--trusted-host", text)


def test_the_hooks_are_the_parts_of_make_check() -> None:
    entries = {hook["entry"].removesuffix(" --message") for hook in hooks()}
    commands = {
        re.sub(r"^find .* -exec (.*) \{\} \+$", r"\1", line.removeprefix("test ! -e .git || "))
        for line in recipe("check")
    }
    assert entries == commands


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_the_command_of_a_hook_exists(hook: dict[str, Any]) -> None:
    assert hook["language"] == "system", "pre-commit would fetch something"
    program, *arguments = hook["entry"].split()
    if program == "clang-format" and "LUNATIK_SOCKET_RING" in os.environ:
        pytest.skip("clang-format is not installed in the userlands; make test has this test")
    assert shutil.which(ROOT / program if "/" in program else program), "./setup.sh test"
    for argument in arguments:
        assert "/" not in argument or (ROOT / argument).exists()


def test_hooks_and_make_check_read_the_same_c_files() -> None:
    (hook,) = (hook for hook in hooks() if hook["id"] == "clang-format")
    paths = {
        str(path.relative_to(ROOT))
        for top in ("bpf", "tests")
        for path in (ROOT / top).rglob("*.[ch]")
    }
    chosen = {p for p in paths if re.search(hook["files"], p) and not re.search(hook["exclude"], p)}
    assert "find bpf tests -name '*.[ch]' -not -path 'bpf/kernel_headers/*'" in recipe("check")[3]
    assert chosen == {path for path in paths if not path.startswith("bpf/kernel_headers/")}


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_a_file_for_github_is_yaml_with_a_licence(path: Path) -> None:
    header = path.read_text().partition("\n")[0]
    assert header.split(": ") == ["# SPDX-License-Identifier", "MIT"]
    assert isinstance(load(str(path.relative_to(ROOT))), dict)


def test_the_workflow_uses_pinned_actions_and_existing_commands() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = load(".github/workflows/check.yml")["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(
        re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in steps if "uses" in step
    )
    script = "\n".join(step.get("run", "") for step in steps)
    assert set(re.findall(r"^make ([a-z-]+)$", script, re.MULTILINE)) == {"check", "test-fast"}
    assert targets >= {"check", "test-fast"}
    for path in re.findall(r"tests/[\w./]+", script):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_an_issue_form_has_what_github_asks_for(name: str) -> None:
    form = load(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)


def test_the_bug_form_asks_for_the_doctor() -> None:
    assert "lunatik-socket doctor --json" in (ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text()


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/design.md"])
def test_a_document_names_only_paths_that_exist(name: str) -> None:
    tops = "tracer|bpf|tests|docs|lunatik_socket|dashboards|examples"
    paths = re.findall(rf"`((?:{tops})/[\w./-]*)`", (ROOT / name).read_text())
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_everything_in_the_tracer_has_a_row_in_the_folder_table() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    folders = {path.parent for path in (ROOT / "tracer").rglob("*.py")} - {ROOT / "tracer"}
    missing = [path for path in folders if f"`{path.relative_to(ROOT)}/`" not in text]
    assert missing == []
