# SPDX-License-Identifier: MIT
"""The packages as users get them, installed and run for real: `make test-packages` (root)."""
