# SPDX-License-Identifier: MIT
"""Write docs/images/live.svg, the live table of a traced run: `python -m docs.generate.picture`."""

import io
import sys
from pathlib import Path

from rich.console import Console

from tracer.cli.demo import subject
from tracer.cli.lifecycle import trace
from tracer.cli.options import TraceOptions
from tracer.model.snapshot import Snapshot
from tracer.terminal.rows import Header
from tracer.terminal.tables import live_table
from tracer.terminal.view import Interval, NoView

__all__ = ["PictureView"]

_WIDTH, _HEIGHT = 80, 32
_SECONDS = 6.0
_FILE = Path(__file__).parents[1] / "images/live.svg"

# Rich's template without its web fonts, which would be loaded from another host.
_SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
    font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
    font-size: {char_height}px;
    line-height: {line_height}px;
    font-variant-east-asian: full-width;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class PictureView(NoView):
    """Keeps the last state of the live table and writes it to a file at the end."""

    def __init__(self, header: Header, path: Path) -> None:
        self._header = header
        self._path = path
        self._console = Console(
            record=True,
            width=_WIDTH,
            height=_HEIGHT,
            file=io.StringIO(),
            force_terminal=True,
            color_system="truecolor",
            highlight=False,
        )

    def begin(self, snapshot: Snapshot) -> None:
        """Take the first snapshot."""
        self._interval = Interval(snapshot)
        self.update(snapshot)

    def update(self, snapshot: Snapshot) -> None:
        """Keep the current table."""
        rows = self._interval.rows(snapshot)
        uptime = self._interval.uptime_seconds()
        self._drawn = live_table(self._header, snapshot, rows, uptime, height=_HEIGHT)

    def end(self) -> None:
        """Write the file; safe to call twice."""
        self._console.print(self._drawn)
        svg = self._console.export_svg(title="lunatik-socket", code_format=_SVG, clear=True)
        self._path.write_text(svg)
        self._console = Console(record=True, width=_WIDTH, file=io.StringIO())


def main() -> int:
    """Trace the demo's traffic and draw the last state of the live table."""
    options = TraceOptions(
        metrics=("127.0.0.1", 10435),
        metrics_given=True,
        operation=(),
        mechanism="auto",
        duration=None,
        by=None,
        json=False,
        output=None,
        interval=1.0,
        live=False,
        quiet=True,
    )
    return trace(subject(_SECONDS), options, lambda header: PictureView(header, _FILE))


if __name__ == "__main__":
    sys.exit(main())
