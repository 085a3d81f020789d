# SPDX-License-Identifier: MIT
"""No tracked text file uses a word that this project replaces by a plainer one.

Every file is checked, this one too: a letter of each word is in brackets, so that no word in the
table matches itself.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# A regular expression for the word, in any case → what to write instead.
WORDS = {
    r"(?<!recom)men[d]": '"hint"; as a verb "fix"',  # apt-get has an option with "recommends"
    r"whoeve[r]": '"anyone who", or name the user or process',
    r"\bdea[r]er\b|\bdea[r] quer": '"more expensive", "costs more"',
    r"\bto be ha[d]\b": '"available"',
    r"\bcannot be ha[d]\b": '"is not available", or what failed',
    r"to_be_ha[d]": '"available"; in a test name too',
    r"known to spea[k] against": '"should work but is untested"',
    r"\bCallErro[r]\b": "UsageError",
    r"\bProbeUs[e]\b": "ProbeStats",
}


def tracked_texts() -> Iterator[tuple[str, str]]:
    """The name and the text of each file that git tracks, without pictures and removed files."""
    listing = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True, timeout=60)
    for name in filter(None, listing.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            yield name, content.decode()


def lines_with(pattern: str) -> list[str]:
    word = re.compile(pattern, re.IGNORECASE)
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), 1)
        if word.search(line)
    ]


def test_the_tracked_texts_are_found() -> None:
    names = {name for name, _ in tracked_texts()}
    assert {"README.md", "tracer/session.py", "bpf/in_flight.h"} <= names


@pytest.mark.parametrize("pattern", WORDS)
def test_a_word_is_found_in_any_case(pattern: str) -> None:
    word = re.sub(r"\\b|[][]|\(.*?\)", "", pattern.partition("|")[0])
    assert re.search(pattern, f"A {word.upper()} B", re.IGNORECASE)


@pytest.mark.parametrize("pattern", WORDS)
def test_no_file_uses_a_word_that_has_a_plainer_one(pattern: str) -> None:
    assert lines_with(pattern) == [], f"write {WORDS[pattern]} instead"
