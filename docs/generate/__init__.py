# SPDX-License-Identifier: MIT
"""Writes the generated parts of README and docs."""
