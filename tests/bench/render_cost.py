# SPDX-License-Identifier: MIT
"""The CPU time of rendering a scrape: `python -m tests.bench.render_cost [SERIES]`.

The snapshot is made up, not read from the kernel. The default number of operation series gives
about 10,000 lines.
"""

import random
import statistics
import sys
import time

from tests.pure.tracer.snapshots import aggregate, series, snapshot
from tracer.exporter.render import Format
from tracer.exporter.scrape import Scraper
from tracer.model.histogram import SLOTS

SCRAPES = 50


def main() -> None:
    """Measure and print."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 270
    chance = random.Random(1)
    cells = [
        series(
            label=f"process-{i}",
            of=aggregate({slot: chance.randrange(1000) for slot in range(SLOTS)}, 10**9, 5),
        )
        for i in range(number)
    ]
    shown = snapshot(*cells, label_name="comm")
    for form in Format:
        for compressed in (False, True):
            report(Scraper(lambda: shown), form, compressed=compressed)


def report(scraper: Scraper, form: Format, *, compressed: bool) -> None:
    """Print the first scrape's time, and the later ones' median and worst."""
    times = []
    for _ in range(SCRAPES):
        begun = time.process_time()
        page = scraper.page(form, compressed)
        times.append((time.process_time() - begun) * 1e3)
    first, *later = times
    lines = scraper.page(form, compressed=False).count(b"\n")
    print(
        f"{form.name.lower():12} {'gzip' if compressed else 'plain':6} {lines:7,} lines "
        f"{len(page):10,} bytes; first {first:5.1f} ms, then {statistics.median(later):5.1f} ms "
        f"(worst {max(later):.1f})"
    )


if __name__ == "__main__":
    main()
