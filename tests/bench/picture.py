# SPDX-License-Identifier: MIT
"""The picture of the report: bars as SVG, made only of text and rectangles."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from tests.bench.report import Bars

__all__ = ["svg"]

_WIDTH, _BAR, _GAP, _HEAD = 760, 18, 6, 34
_NAMES, _LONGEST = 210, 400
_OURS = "this"

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.bar { fill: #8c959f } .ours { fill: #0969da }
.back { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .back { fill: #0d1117 } .bar { fill: #6e7681 } .ours { fill: #4493f8 }
}
"""


def svg(groups: Sequence[Bars]) -> str:
    """Draw the groups one below the other. A bar beyond four times the median is cut and marked."""
    height = sum(_HEAD + len(group.bars) * (_BAR + _GAP) + 12 for group in groups)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">',
        "<title>Benchmarks of lunatik-socket</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{_WIDTH}" height="{height}"/>',
    ]
    top = 0
    for group in groups:
        lines += _group(group, top)
        top += _HEAD + len(group.bars) * (_BAR + _GAP) + 12
    return "\n".join([*lines, "</svg>", ""])


def _group(group: Bars, top: int) -> Iterator[str]:
    yield f'<text class="title" x="12" y="{top + 22}">{escape(group.title)}</text>'
    lengths = sorted(length for _, length, _ in group.bars)
    limit = min(lengths[-1], 4 * lengths[len(lengths) // 2])
    for number, (name, length, words) in enumerate(group.bars):
        y = top + _HEAD + number * (_BAR + _GAP)
        width = max(1.0, min(length, limit) / limit * _LONGEST)
        kind = "bar ours" if name.startswith(_OURS) else "bar"
        cut = " (cut)" if length > limit else ""
        yield f'<text x="{_NAMES - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_BAR}"/>'
        yield f'<text x="{_NAMES + width + 8:.1f}" y="{y + 14}">{escape(words + cut)}</text>'
