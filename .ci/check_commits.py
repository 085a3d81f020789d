# SPDX-License-Identifier: MIT
"""Check the messages of new commits.

    python .ci/check_commits.py [BASE]           every commit after BASE in the current repository
    python .ci/check_commits.py --message FILE   the message of the commit that is being made

The second form is git's commit-msg hook. The rules:

- The subject is `area: what`, at most 72 characters, without the word "wip".
- A body says why. A commit that only renames files and adapts their import lines needs none.

Merge commits are not checked. Where there is no history to check (a tarball, a shallow clone that
ends after BASE), the check says so and passes.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["faults", "only_moves"]

# Commits up to this one were made before the rules.
BASE = "1d84ea3a531600d68126728d0c275a57d5565cab"
SUBJECT_LENGTH = 72

_SUBJECT = re.compile(r"[\w./*-]+(, [\w./*-]+)*: \S.*")
_WIP = re.compile(r"\bwip\b", re.IGNORECASE)
_TRAILER = re.compile(r"([A-Z][a-z]+(-[a-z]+)*-by|Change-Id|Fixes|Closes|Refs): ")
# Also the names in an import of several lines.
_IMPORT = re.compile(
    r"\s*(from\s+\S+\s+import\b.*|import\s.*|#\s*include\b.*|\w+(\s+as\s+\w+)?,|\)|)\s*"
)
_SCISSORS = "# ------------------------ >8"


def faults(message: str, *, needs_body: bool = True) -> Iterator[str]:
    """Say which rules this commit message breaks."""
    subject, _, body = message.strip().partition("\n")
    if len(subject) > SUBJECT_LENGTH:
        yield f"the subject has {len(subject)} characters, at most {SUBJECT_LENGTH} are allowed"
    if not _SUBJECT.fullmatch(subject):
        yield 'the subject is not "area: what" (e.g. "exporter: one header for each page")'
    if _WIP.search(subject):
        yield 'the subject says "wip"'
    lines = [line for line in body.splitlines() if line.strip() and not _TRAILER.match(line)]
    if needs_body and not lines:
        yield "there is no body that says why"


def only_moves(patch: str) -> bool:
    """Tell whether a patch, in git's format with renames, has nothing but renames and imports."""
    files = re.split(r"^diff --git ", patch, flags=re.MULTILINE)[1:]
    return bool(files) and "\nrename to " in patch and all(map(_only_imports, files))


def _only_imports(file: str) -> bool:
    head, *hunks = re.split(r"^@@ .*$", file, flags=re.MULTILINE)
    if re.search(r"^(new file|deleted file|copy|Binary|GIT binary)", head, re.MULTILINE):
        return False
    changed = (line for hunk in hunks for line in hunk.splitlines() if line[:1] in {"+", "-"})
    return all(_IMPORT.fullmatch(line[1:]) for line in changed)


def check_history(base: str) -> int:
    """Check all commits after *base*; returns how many of them break a rule."""
    if not Path(".git").exists():
        print("commit check: no git repository here, so no commits to check")
        return 0
    _git("rev-parse", "--git-dir")  # fails, and says why, in a repository that git does not trust
    if not _succeeds("cat-file", "-e", f"{base}^{{commit}}"):
        print(f"commit check: {base[:7]} is not in this clone, so no commits to check")
        return 0
    failed = 0
    for commit in _git("rev-list", "--no-merges", "--reverse", f"{base}..HEAD").split():
        message = _git("show", "--no-patch", "--format=%B", commit)
        found = list(faults(message))
        if found and only_moves(_git("show", "--format=", *_PATCH, commit)):
            found = list(faults(message, needs_body=False))
        _report(_git("show", "--no-patch", "--format=%h %s", commit).strip(), found)
        failed += bool(found)
    return failed


def check_message(file: str) -> int:
    """Check the message in *file*, of the commit that is in git's index; returns 0 or 1."""
    if _succeeds("rev-parse", "--quiet", "--verify", "MERGE_HEAD"):
        return 0
    text, _, _ = Path(file).read_text().partition(_SCISSORS)
    message = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    moves = only_moves(_git("diff", "--cached", *_PATCH))
    found = list(faults(message, needs_body=not moves))
    _report(message.strip().partition("\n")[0], found)
    return int(bool(found))


_PATCH = ("--patch", "--unified=0", "--find-renames", "--no-color", "--no-ext-diff")


def _report(commit: str, found: list[str]) -> None:
    for fault in found:
        print(f"{commit}: {fault}", file=sys.stderr)


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], stdout=subprocess.PIPE, text=True, errors="replace", check=True
    ).stdout


def _succeeds(*arguments: str) -> bool:
    done = subprocess.run(["git", *arguments], capture_output=True, check=False)
    return done.returncode == 0


def main(arguments: list[str]) -> int:
    """Check what the command line names; returns the exit status."""
    try:
        match arguments:
            case ["--message", file]:
                return check_message(file)
            case [] | [_]:
                return min(check_history(*arguments or [BASE]), 1)
    except FileNotFoundError as error:
        print(f"commit check: cannot run: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        print("commit check: git failed, see above", file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
