# SPDX-License-Identifier: MIT
"""How a ring runs its places: several at once, and once more if one does not start."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.vm.command import NotStartedError, Place, main
from tests.vm.process import attend

ALL_GOOD = '<testsuites><testsuite><testcase name="good"/></testsuite></testsuites>'
Work = Callable[[], object]


def ring(directory: Path, names: Sequence[str], work: Work, *arguments: str, jobs: int = 1) -> int:
    """Run a ring of these places, which do this work and then write a good report."""

    def run(_: Sequence[str], results: Path, __: float, on_line: Callable[[str], None]) -> int:
        work()
        on_line("it runs")
        (results / "junit.xml").write_text(ALL_GOOD)
        return 0

    own = ["--results", str(directory), *arguments]
    return main("place", "", names, lambda *_: Place({}, run), jobs=jobs, arguments=own)


def test_places_run_at_the_same_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meet = threading.Barrier(2, timeout=60)
    assert ring(tmp_path, ["one", "two"], meet.wait, jobs=2) == 0
    table = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line[:2] == "| "]
    assert table[2:] == ["one", "two"]


def test_the_command_line_says_how_many_run_at_the_same_time(tmp_path: Path) -> None:
    meet, alone = threading.Barrier(2, timeout=1), []

    def work() -> None:
        try:
            meet.wait()
        except threading.BrokenBarrierError:
            alone.append(True)

    assert ring(tmp_path, ["one", "two", "three"], work, "--jobs", "1", jobs=3) == 0
    assert len(alone) == 3


def test_a_place_that_does_not_start_is_tried_once_more_and_this_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = [NotStartedError("no output within 240 s\nthe console")]

    def work() -> None:
        if failures:
            raise failures.pop()

    assert ring(tmp_path, ["one"], work) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "NOT STARTED; this is the second and last try" in lines
    assert lines[-1] == "one: tried twice: no output within 240 s"


def test_a_place_that_does_not_start_twice_has_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        raise NotStartedError("no output within 240 s")

    assert ring(tmp_path, ["one"], work) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "one: tried twice: no output within 240 s",
        "one: no output within 240 s",
    ]


def test_a_command_without_a_first_line_in_time_is_ended() -> None:
    assert attend(["sleep", "600"], 600, print, first_line=0.1) is None


def test_a_command_with_a_first_line_may_be_silent_after_it() -> None:
    lines: list[str] = []
    command = ["sh", "-c", "echo here; sleep 4; exit 3"]
    assert attend(command, 600, lines.append, first_line=3) == 3
    assert lines == ["here"]
