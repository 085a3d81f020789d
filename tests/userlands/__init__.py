# SPDX-License-Identifier: MIT
"""The ring of tests in other userlands: other bcc, LLVM and Python, this machine's kernel."""
