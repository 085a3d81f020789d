# SPDX-License-Identifier: MIT
"""Scripts in a process that the kernel confines. docs/sandbox.md describes it."""
