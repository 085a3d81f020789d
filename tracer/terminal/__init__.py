# SPDX-License-Identifier: MIT
"""Output for people and scripts: live table, plain lines, final summary, final JSON."""
