# SPDX-License-Identifier: MIT
"""Where the committed dashboards come from: `python -m dashboards.source` writes them anew."""
