# SPDX-License-Identifier: MIT
"""How a ring reads a report: no failure may count as success."""

import json
from pathlib import Path

import pytest

from tests.vm.results import Result, explain, keep, read, table

REPORT = """\
<testsuites><testsuite name="pytest" tests="6">
<properties><property name="mechanisms" value="tracepoint kprobe"/>
<property name="hypothesis-statistics" value="long"/></properties>
<testcase name="good"/>
<testcase name="also good"/>
<testcase name="bad"><failure message="assert 0"/></testcase>
<testcase name="bad twice"><failure message="assert 0"/><error message="in tear-down"/></testcase>
<testcase name="never began"><error message="in set-up"/></testcase>
<testcase name="not here"><skipped message="needs a moon: wait"/></testcase>
</testsuite></testsuites>
"""
ALL_GOOD = '<testsuites><testsuite><testcase name="good"/></testsuite></testsuites>'


def report(directory: Path, text: str, status: int = 0) -> Result:
    path = directory / "junit.xml"
    path.write_text(text)
    return read("6.1", status, 14.6, path, {"release": "6.1.0-56-amd64"})


def test_each_test_is_counted_once(tmp_path: Path) -> None:
    result = report(tmp_path, REPORT, 1)
    assert (result.passed, result.failed, result.skipped) == (2, 3, 1)
    assert result.skips == {"needs a moon: wait": 1}
    assert not result.good


def test_facts_come_from_the_place_and_the_tests_but_not_from_plugins(tmp_path: Path) -> None:
    facts = report(tmp_path, REPORT).facts
    assert facts == {"release": "6.1.0-56-amd64", "mechanisms": "tracepoint kprobe"}


def test_a_result_with_a_good_report_and_status_is_good(tmp_path: Path) -> None:
    assert report(tmp_path, ALL_GOOD).good


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (ALL_GOOD, 1),
        (ALL_GOOD, 5),
        ("<testsuites><testsuite/></testsuites>", 0),
        (REPORT, 0),
        ("", 0),
        (ALL_GOOD[:-5], 0),
    ],
)
def test_a_result_with_a_bad_report_or_status_is_not_good(
    tmp_path: Path, text: str, status: int
) -> None:
    assert not report(tmp_path, text, status).good


def test_a_missing_report_is_trouble(tmp_path: Path) -> None:
    result = read("6.1", 0, 1.0, tmp_path / "junit.xml", {})
    assert not result.good
    assert "no report" in result.trouble
    assert explain([result]) == [f"6.1: {result.trouble}"]


def test_the_table_is_markdown_with_facts_as_columns(tmp_path: Path) -> None:
    good = report(tmp_path, ALL_GOOD)
    dead = Result("7.2", None, 8.0, {"mechanisms": "none"}, trouble="the guest died; last\nwords")
    assert table("kernel", [good, dead]).splitlines() == [
        "| kernel | release        | mechanisms | passed | failed | skipped | seconds | verdict |",
        "| ------ | -------------- | ---------- | ------ | ------ | ------- | ------- | ------- |",
        "| 6.1    | 6.1.0-56-amd64 |            | 1      | 0      | 0       | 15      | good    |",
        "| 7.2    |                | none       | 0      | 0      | 0       | 8       | BAD     |",
    ]
    assert explain([dead]) == ["7.2: the guest died; last"]
    path = tmp_path / "results.json"
    keep([good, dead], path, ["6.1", "7.2"])
    assert [entry["good"] for entry in json.loads(path.read_text())] == [True, False]


def test_a_ring_of_some_places_keeps_the_results_of_the_others(tmp_path: Path) -> None:
    path, order = tmp_path / "results.json", ["5.10", "6.1", "7.2"]
    keep([Result("7.2", 0, 1, passed=2), Result("6.1", None, 1)], path, order)
    keep([Result("6.1", 0, 1, passed=3)], path, order)
    kept = [(one["name"], one["passed"], one["good"]) for one in json.loads(path.read_text())]
    assert kept == [("6.1", 3, True), ("7.2", 2, True)]
