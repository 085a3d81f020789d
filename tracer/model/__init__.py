# SPDX-License-Identifier: MIT
"""Plain data without I/O: the table of operations, settings, errnos, histograms, snapshots."""
