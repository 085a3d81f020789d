# SPDX-License-Identifier: MIT
"""What has not changed for long enough, and in which order."""

from tracer.model.silence import Silence


def test_what_has_not_changed_for_the_limit_is_silent() -> None:
    silence: Silence[str] = Silence(600)
    silence.note({"changes": 1, "stays": 1}, 1000)
    silence.note({"changes": 2, "stays": 1}, 1599)
    assert silence.silent(1599) == []
    assert silence.silent(1600) == ["stays"]
    assert silence.silent(2199) == ["stays", "changes"]


def test_a_change_ends_the_silence() -> None:
    silence: Silence[str] = Silence(600)
    silence.note({"back": 1}, 0)
    assert silence.silent(600) == ["back"]
    silence.note({"back": 2}, 600)
    assert silence.silent(1199) == []


def test_the_longest_silent_comes_first() -> None:
    silence: Silence[str] = Silence(0)
    silence.note({"new": 0, "old": 0}, 10)
    silence.note({"new": 1, "old": 0}, 20)
    assert silence.silent(20) == ["old", "new"]


def test_what_is_no_longer_counted_is_forgotten() -> None:
    silence: Silence[str] = Silence(0)
    silence.note({"gone": 1}, 0)
    silence.note({}, 1)
    assert silence.silent(2) == []
