# SPDX-License-Identifier: MIT
"""From the table of operations to C text, and from there to attached programs."""
