# SPDX-License-Identifier: MIT
"""What it all costs, measured: `python -m tests.bench` (or `make bench`)."""
