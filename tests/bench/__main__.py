# SPDX-License-Identifier: MIT
"""Measure everything and write docs/benchmarks.md, or measure some sections and print them.

    python -m tests.bench [--quick] [SECTION…]

Run it as root, on a machine where nothing else runs.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.bench import (
    api_cost,
    bystander_cost,
    function_cost,
    growth,
    proxy_cost,
    scrape_cost,
    start_and_size,
    steps,
    trace_cost,
)
from tests.bench.picture import svg
from tests.bench.report import Machine, Section, markdown

_ROUNDS, _QUICK_ROUNDS = 15, 3
_DOCS = Path(__file__).parents[2] / "docs"
_SECTIONS: dict[str, Callable[[int], Section]] = {
    "trace": trace_cost.measure,
    "steps": steps.measure,
    "bystander": bystander_cost.measure,
    "functions": function_cost.measure,
    "api": api_cost.measure,
    "proxy": proxy_cost.measure,
    "scrape": scrape_cost.measure,
    "size": start_and_size.measure,
    "growth": growth.measure,
}


def main() -> None:
    """Read the command line, measure, and write or print the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(_SECTIONS))
    parser.add_argument("--quick", action="store_true", help="few rounds, only printed")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(_SECTIONS):
        parser.error(
            f"unknown section {', '.join(sorted(unknown))}: expected {', '.join(_SECTIONS)}"
        )
    if os.geteuid() != 0:
        raise SystemExit("cannot measure: tracing needs root; run it as root")
    # A shell's background job ignores SIGINT, and so would the tracers that are stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    machine, rounds = Machine(), _QUICK_ROUNDS if options.quick else _ROUNDS
    measured = [_measured(name, rounds) for name in options.sections or _SECTIONS]
    text = markdown(measured, machine, rounds)
    if options.quick or options.sections:
        print(text)
        return
    (_DOCS / "benchmarks.md").write_text(text)
    bars = [bars for section in measured for bars in section.bars]
    (_DOCS / "images" / "benchmarks.svg").write_text(svg(bars))


def _measured(name: str, rounds: int) -> Section:
    """Measure a section; if it fails, report that in its place and keep the other sections."""
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    try:
        return _SECTIONS[name](rounds)
    except Exception as error:
        traceback.print_exc()
        return Section(f"{name}: not measured", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
