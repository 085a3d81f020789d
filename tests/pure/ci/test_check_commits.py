# SPDX-License-Identifier: MIT
"""The commit check, on repositories made for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci/check_commits.py"
WHY = "\n\nIt was wrong because of this."


class Repository:
    """A throw-away git repository whose first commit is the base."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        # Variables of a hook that runs these tests name another repository.
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            **{
                f"GIT_{who}_{what}": value
                for who in ("AUTHOR", "COMMITTER")
                for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"))
            },
        }
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit(
            "all: before the rules",
            {"old.py": "import a\nfrom b import (\n    c,\n)\n\nx = 1\n" * 3},
        )
        self.base = self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.root, env=self.environment,
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    def commit(self, message: str, files: dict[str, str] | None = None) -> None:
        for name, text in (files or {"file": message}).items():
            (self.root / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty-message", "--message", message)

    def check(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, SCRIPT, *(arguments or [self.base])], cwd=self.root,
            env=self.environment, check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    if shutil.which("git") is None:
        pytest.skip("git is missing: apt-get install git")
    return Repository(tmp_path / "repository")


@pytest.mark.parametrize(
    "message",
    [
        "exporter: one header for each page" + WHY,
        "tracer/cli, docs: the default is everything" + WHY,
        "pyproject.toml: a bound" + WHY,
        "x: " + "y" * 69 + WHY,
        "vm: wiped disks are not a problem" + WHY,
        "api: a body and a trailer" + WHY + "\n\nSigned-off-by: A <a@example.org>",
    ],
)
def test_a_good_message_passes(repository: Repository, message: str) -> None:
    repository.commit(message)
    assert repository.check() == (0, "")


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("x: " + "y" * 70 + WHY, "the subject has 73 characters, at most 72 are allowed"),
        ("repair the exporter" + WHY, 'the subject is not "area: what"'),
        ("exporter:" + WHY, 'the subject is not "area: what"'),
        ("the exporter: repair" + WHY, 'the subject is not "area: what"'),
        ('Revert "exporter: repair"' + WHY, 'the subject is not "area: what"'),
        ("exporter: WIP headers" + WHY, 'the subject says "wip"'),
        ("exporter: headers", "there is no body that says why"),
        (
            "exporter: headers\n\nSigned-off-by: A <a@example.org>\nFixes: #3",
            "there is no body that says why",
        ),
    ],
)
def test_a_bad_message_is_named_with_its_fault(
    repository: Repository, message: str, fault: str
) -> None:
    repository.commit("api: a good one" + WHY)
    repository.commit(message)
    status, output = repository.check()
    name = repository.git("log", "-1", "--format=%h %s").strip()
    assert status == 1
    assert [line.startswith(f"{name}: {fault}") for line in output.splitlines()] == [True]


def test_every_bad_commit_is_named(repository: Repository) -> None:
    repository.commit("no area")
    repository.commit("api: none" + WHY)
    repository.commit("api: no body")
    status, output = repository.check()
    assert status == 1
    assert output.count("\n") == 3
    assert output.count("there is no body") == 2


def test_a_pure_move_needs_no_body(repository: Repository) -> None:
    text = (repository.root / "old.py").read_text()
    repository.git("mv", "old.py", "new.py")
    moved = text.replace("import a", "import z.a", 1).replace("    c,", "    c,\n    d as e,", 1)
    repository.commit("tracer: a move", {"new.py": moved, "file": ""})
    assert repository.check()[0] == 1, "a file was added"
    repository.git("reset", "--quiet", "--hard", repository.base)
    repository.git("mv", "old.py", "new.py")
    repository.commit("tracer: a move", {"new.py": moved})
    assert repository.check() == (0, "")


def test_a_move_with_more_than_imports_needs_a_body(repository: Repository) -> None:
    text = (repository.root / "old.py").read_text()
    repository.git("mv", "old.py", "new.py")
    repository.commit("tracer: a move", {"new.py": text.replace("x = 1", "x = 2", 1)})
    status, output = repository.check()
    assert (status, "there is no body that says why" in output) == (1, True)


def test_changed_imports_without_a_move_need_a_body(repository: Repository) -> None:
    text = (repository.root / "old.py").read_text()
    repository.commit("tracer: imports", {"old.py": text.replace("import a", "import z.a")})
    assert repository.check()[0] == 1


def test_a_pure_move_still_needs_a_good_subject(repository: Repository) -> None:
    repository.git("mv", "old.py", "new.py")
    repository.git("commit", "--quiet", "--message", "moved")
    status, output = repository.check()
    assert (status, output.count("\n")) == (1, 1)
    assert 'the subject is not "area: what"' in output


def test_merge_commits_are_skipped(repository: Repository) -> None:
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("api: on the side" + WHY, {"side": "1"})
    repository.git("checkout", "--quiet", "main")
    repository.commit("api: on main" + WHY, {"main": "1"})
    repository.git("merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    assert repository.check() == (0, "")


def test_a_shallow_clone_passes_with_a_line(repository: Repository, tmp_path: Path) -> None:
    repository.commit("no area")
    shallow = tmp_path / "shallow"
    repository.git("clone", "--quiet", "--depth=1", f"file://{repository.root}", str(shallow))
    base, repository.root = repository.base, shallow
    line = f"commit check: {base[:7]} is not in this clone, so no commits to check\n"
    assert repository.check() == (0, line)


def test_a_tarball_passes_with_a_line(repository: Repository) -> None:
    repository.commit("no area")
    inside = repository.root / "unpacked"  # in another project's repository
    inside.mkdir()
    repository.root = inside
    line = "commit check: no git repository here, so no commits to check\n"
    assert repository.check() == (0, line)


def test_the_hook_checks_the_message_that_is_being_made(
    repository: Repository, tmp_path: Path
) -> None:
    message = tmp_path / "message"
    message.write_text("api: no body\n# Please enter the commit message\n")
    status, output = repository.check("--message", str(message))
    assert (status, output) == (1, "api: no body: there is no body that says why\n")
    repository.git("mv", "old.py", "new.py")
    assert repository.check("--message", str(message)) == (0, "")
    message.write_text("moved\n")
    assert repository.check("--message", str(message))[0] == 1


def test_the_hook_leaves_merges_alone(repository: Repository, tmp_path: Path) -> None:
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("api: on the side" + WHY, {"side": "1"})
    repository.git("checkout", "--quiet", "main")
    repository.git("merge", "--quiet", "--no-ff", "--no-commit", "side")
    message = tmp_path / "message"
    message.write_text("Merge side\n")
    assert repository.check("--message", str(message)) == (0, "")


def test_a_wrong_command_line_prints_the_usage(repository: Repository) -> None:
    status, output = repository.check("one", "two")
    assert status == 2
    assert "python .ci/check_commits.py [BASE]" in output
