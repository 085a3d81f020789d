# SPDX-License-Identifier: MIT
"""`python -m tracer` is `lunatik-socket`."""

from tracer.cli import main

main()
