# SPDX-License-Identifier: MIT
"""The source of the Grafana boards: `python -m dashboards.source` generates their JSON."""
