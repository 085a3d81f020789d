# SPDX-License-Identifier: MIT
"""Write the boards' JSON: `python -m dashboards.source [DIRECTORY]`."""

import sys
from pathlib import Path

from dashboards.source.boards import BOARDS, text

directory = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "grafana")
directory.mkdir(parents=True, exist_ok=True)
for name in BOARDS:
    (directory / f"{name}.json").write_text(text(name))
