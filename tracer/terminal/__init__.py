# SPDX-License-Identifier: MIT
"""What the terminal shows: tables, the live view, plain lines, the summary."""
