# SPDX-License-Identifier: MIT
"""docs/benchmarks.md has the text that the benchmarks would write; only its figures may differ."""

import re
import string
import sys
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.__main__ import _SECTIONS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/benchmarks.md").read_text()
MODULES = {name: sys.modules[measure.__module__] for name, measure in _SECTIONS.items()}
REASON = re.compile(r"^- \*.*?(?=\n- |\n\n)", re.DOTALL | re.MULTILINE)


def pattern(template: str) -> str:
    """A regular expression for the texts that `template.format(…)` can give."""
    return "".join(
        re.escape(text) + ("" if field is None else ".*?")
        for text, field, _, _ in string.Formatter().parse(template)
    )


def test_a_pattern_leaves_only_the_fields_open() -> None:
    assert re.fullmatch(pattern("a (b) {c:.0f} d{e}"), "a (b) 117 ns d")
    assert not re.fullmatch(pattern("a (b) {c:.0f} d{e}"), "a (c) 117 ns d")


def test_the_head_of_the_page_is_that_of_the_report() -> None:
    assert re.match(pattern(report._HEAD), PAGE, re.DOTALL)


@pytest.mark.parametrize("name", MODULES)
def test_a_section_of_the_page_has_the_text_of_its_benchmark(name: str) -> None:
    template = MODULES[name]._TEXT.strip()
    title = f'"({"|".join(re.findall("^## (.*)$", PAGE, re.MULTILINE))})"'
    found = re.search(title, Path(MODULES[name].__file__ or "").read_text())
    assert found, "no section of the page has this benchmark's title"
    section = PAGE.partition(f"\n## {found[1]}\n\n")[2].partition("\n## ")[0]
    assert re.fullmatch(pattern(template), section.strip(), re.DOTALL)


def test_the_reasons_on_the_page_are_those_of_the_benchmarks() -> None:
    reasons = {
        value
        for module in MODULES.values()
        for key, value in vars(module).items()
        if key.startswith("_WHY")
    }
    targets = PAGE.partition("## Targets and figures")[2].partition("\n## ")[0] + "\n"
    shown = REASON.findall(targets)
    assert shown
    assert set(shown) <= reasons
