# SPDX-License-Identifier: MIT
"""The command line, `lunatik-socket`: one module per command, imported when it is used."""

from tracer.cli.entry import main

__all__ = ["main"]
