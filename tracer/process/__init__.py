# SPDX-License-Identifier: MIT
"""Processes and signals: started commands, their output, the interpreter to start."""
