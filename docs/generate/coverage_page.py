# SPDX-License-Identifier: MIT
"""Write the generated parts of docs/coverage.md from the reports of the test rings.

    python -m tests.vm.ring && python -m tests.userlands.ring
    python -m docs.generate.coverage_page

Each cell was recorded by a test of that run: tests/kernel/bpf/test_coverage.py (ways) and
tests/kernel/bpf/test_functions.py (functions).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from docs.generate.coverage_table import coverage_table
from tracer.model.operations import FUNCTIONS

__all__ = ["DOCUMENT", "replace_block"]

PROJECT = Path(__file__).parents[2]
DOCUMENT = PROJECT / "docs/coverage.md"
KERNELS, USERLANDS = (PROJECT / "build/rings" / kind for kind in ("kernels", "userlands"))


def main() -> None:
    """Rewrite the blocks of the document, except those of a ring that has not run here."""
    text = replace_block(DOCUMENT.read_text(), "operations", coverage_table().rstrip())
    if (KERNELS / "results.json").exists():
        reports = sorted(KERNELS.glob("*/junit.xml"))
        notes = {path.parent.name: list(_notes(path)) for path in reports}
        kernels = sorted(notes, key=lambda name: [int(part) for part in name.split(".")])
        text = replace_block(text, "functions", _functions_table(kernels, notes))
        text = replace_block(text, "ways", _ways_table(kernels, notes))
        text = replace_block(text, "kernels", _results_table("kernel", KERNELS))
    if (USERLANDS / "results.json").exists():
        text = replace_block(text, "userlands", _results_table("userland", USERLANDS))
    DOCUMENT.write_text(text)


def replace_block(text: str, name: str, content: str) -> str:
    """Put `content` between the marks of the generated block with this name."""
    pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
    result, number = re.subn(
        pattern, lambda match: f"{match[1]}{content}\n{match[2]}", text, flags=re.DOTALL
    )
    if number != 1:
        raise ValueError(
            f'cannot replace the block "{name}": expected it once, found it {number} times'
        )
    return result


def _notes(report: Path) -> Iterator[dict[str, object]]:
    for entry in ElementTree.parse(report).getroot().iter("property"):
        if entry.get("name") in ("coverage", "functions"):
            yield json.loads(entry.get("value", "{}")) | {"kind": entry.get("name")}


def _functions_table(kernels: list[str], notes: dict[str, list[dict[str, object]]]) -> str:
    rows = []
    for function in FUNCTIONS:
        cells = []
        for kernel in kernels:
            by = [
                note["mechanism"]
                for note in notes[kernel]
                if note["kind"] == "functions" and function.name in note["attached"]  # type: ignore[operator]
            ]
            cells.append(", ".join(sorted(map(str, by))) or "not there")
        rows.append([f"`{function.name}`", function.operation or "", *cells])
    return _table(["function", "operation", *kernels], rows)


def _ways_table(kernels: list[str], notes: dict[str, list[dict[str, object]]]) -> str:
    ways: dict[str, dict[str, list[dict[str, object]]]] = {}
    for kernel in kernels:
        for note in notes[kernel]:
            if note["kind"] == "coverage":
                ways.setdefault(str(note["way"]), {}).setdefault(kernel, []).append(note)
    rows = [
        [way, *(_way_cell(seen.get(kernel, [])) for kernel in kernels)]
        for way, seen in ways.items()
    ]
    return _table(["way", *kernels], rows)


def _way_cell(notes: list[dict[str, object]]) -> str:
    """What the operation layer counted, and the functions that were passed, by any mechanism."""
    operations = {name for note in notes for name in note["operations"]}  # type: ignore[attr-defined]
    functions = {name for note in notes for name in note["functions"]}  # type: ignore[attr-defined]
    counted = ", ".join(sorted(operations)) or "not counted"
    return counted + (f"; `{'`, `'.join(sorted(functions))}`" if functions else "")


def _results_table(kind: str, reports: Path) -> str:
    results = json.loads((reports / "results.json").read_text())
    facts = list(dict.fromkeys(fact for result in results for fact in result["facts"]))
    counts = ["passed", "failed", "skipped"]
    rows = [
        [r["name"], *(r["facts"].get(fact, "") for fact in facts), *(str(r[k]) for k in counts)]
        for r in results
    ]
    return _table([kind, *facts, *counts], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
