# SPDX-License-Identifier: MIT
"""The result of a pytest run in a ring, read from its JUnit XML, and a table of several."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

__all__ = ["Result", "explain", "keep", "read", "table"]

# The properties that tests set with record_testsuite_property to describe the place they ran in.
# Others are ignored: plugins set some of their own.
RECORDED = ("mechanisms",)


@dataclass(frozen=True)
class Result:
    """One run: *name* of the place it ran in, exit *status* of pytest, None if it did not finish.

    *facts* describe the place (its kernel, its bcc, the mechanisms) and become columns.
    *seconds* is the wall time of the whole run, with the boot. *skips* counts the skip reasons.
    *trouble* says why there is no readable report, *first_try* why the run was the second one.
    """

    name: str
    status: int | None
    seconds: float
    facts: dict[str, str] = field(default_factory=dict)
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    skips: dict[str, int] = field(default_factory=dict)
    trouble: str = ""
    first_try: str = ""

    @property
    def good(self) -> bool:
        """Whether everything ran to its end, nothing failed and at least one test passed."""
        return self.status == 0 and self.passed > 0 and not self.failed and not self.trouble


def read(
    name: str, status: int | None, seconds: float, junit: Path, facts: dict[str, str]
) -> Result:
    """Read the report at *junit*; if it cannot be read, the result has *trouble* set."""
    try:
        suites = list(ElementTree.parse(junit).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError) as error:
        return Result(name, status, seconds, facts, trouble=f"no report: {error}")
    cases = [case for suite in suites for case in suite.iter("testcase")]
    skips = [skip.get("message", "") for case in cases for skip in case.iter("skipped")]
    # A test that fails, and whose tear-down fails too, counts once.
    failed = sum(any(case.find(bad) is not None for bad in ("failure", "error")) for case in cases)
    recorded = {
        entry.get("name", ""): entry.get("value", "")
        for suite in suites
        for entry in suite.iterfind("properties/property")
        if entry.get("name") in RECORDED
    }
    return Result(
        name, status, seconds, facts | recorded,
        passed=len(cases) - failed - len(skips), failed=failed, skipped=len(skips),
        skips=dict(Counter(skips)),
    )  # fmt: skip


def table(heading: str, results: Sequence[Result]) -> str:
    """Return the results as an aligned Markdown table, with the facts as columns."""
    facts = list(dict.fromkeys(fact for result in results for fact in result.facts))
    rows = [[heading, *facts, "passed", "failed", "skipped", "seconds", "verdict"]]
    rows += [_row(result, facts) for result in results]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def explain(results: Sequence[Result]) -> list[str]:
    """Return the lines below the table: skip reasons, second tries, first lines of troubles."""
    lines = []
    for result in results:
        if result.first_try:
            lines.append(f"{result.name}: tried twice: {result.first_try.splitlines()[0]}")
        lines += [f"{result.name}: skipped {n}: {why}" for why, n in sorted(result.skips.items())]
        if result.trouble:
            lines.append(f"{result.name}: {result.trouble.splitlines()[0]}")
    return lines


def keep(results: Sequence[Result], path: Path, order: Sequence[str]) -> None:
    """Write the results to a JSON file; the results of other places in it stay."""
    known = {result["name"]: result for result in _kept(path)}
    known |= {result.name: asdict(result) | {"good": result.good} for result in results}
    ordered = [known[name] for name in order if name in known]
    path.write_text(json.dumps(ordered, indent=2) + "\n")


def _kept(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text()) if path.exists() else []


def _row(result: Result, facts: list[str]) -> list[str]:
    counts = (result.passed, result.failed, result.skipped, round(result.seconds))
    return [
        result.name,
        *(result.facts.get(fact, "") for fact in facts),
        *(str(count) for count in counts),
        "good" if result.good else "BAD",
    ]
