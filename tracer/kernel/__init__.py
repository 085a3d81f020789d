# SPDX-License-Identifier: MIT
"""What this kernel is and has: its types, its capabilities, its maps, its blocked threads."""
