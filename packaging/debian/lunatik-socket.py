#! /usr/bin/python3 -I
# SPDX-License-Identifier: MIT
# Isolated (-I): neither PYTHONPATH nor a user's packages may replace a module of root's process.
"""Start the command line of lunatik-socket."""

import sys

sys.path.insert(1, "/usr/share/lunatik-socket")

from tracer.cli import main

main()
