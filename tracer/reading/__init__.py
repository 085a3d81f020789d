# SPDX-License-Identifier: MIT
"""The parts of `tracer.reader`: cells, the values of a label, the connection layer."""
