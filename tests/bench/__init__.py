# SPDX-License-Identifier: MIT
"""The benchmarks: `python -m tests.bench` (or `make bench`)."""
