# SPDX-License-Identifier: MIT
"""The command line, `lunatik-socket`: one module a command, loaded only when it is called for."""

from tracer.cli.entry import main

__all__ = ["main"]
