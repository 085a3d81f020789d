# SPDX-License-Identifier: MIT
"""The tracer: which socket operations programs make, and what each costs in the kernel."""

__version__ = "0.1.0"
__all__ = ["__version__"]
