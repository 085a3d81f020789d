# SPDX-License-Identifier: MIT
"""Started commands, their output, signals, and which Python to start."""
