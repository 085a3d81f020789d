# SPDX-License-Identifier: MIT
"""The automaton of --comm against Python's fnmatch."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.model.thread_names import automaton, is_pattern

_NAMES = st.text("ab-]*", max_size=15)
_PATTERNS = st.lists(
    st.sampled_from(["a", "b", "-", "*", "?", "[ab]", "[!a]", "[a-b]", "[", "]"]), max_size=10
).map("".join)


@given(st.lists(_PATTERNS, min_size=1, max_size=3), _NAMES)
def test_the_same_as_fnmatch(patterns: list[str], name: str) -> None:
    expected = any(fnmatch.fnmatchcase(name.encode(), pattern.encode()) for pattern in patterns)
    assert automaton(patterns).matches(name.encode()) == expected


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("nginx*", "nginx"),
        ("nginx*", "nginx: worker"),
        ("*pool-?", "my-pool-7"),
        ("a[0-9]b", "a5b"),
    ],
)
def test_a_pattern_matches(pattern: str, name: str) -> None:
    assert is_pattern(pattern)
    assert automaton([pattern]).matches(name.encode())
    assert not automaton([pattern]).matches(b"x" + name.encode() + b"!") or pattern.startswith("*")


def test_a_name_is_no_pattern() -> None:
    assert not is_pattern("nginx: worker")


def test_patterns_that_are_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="the patterns have 80 elements together"):
        automaton(["abcdefghijklmno*"] * 5)
