# SPDX-License-Identifier: MIT
"""The test ring in other userlands: another bcc, LLVM and Python on this machine's kernel."""
