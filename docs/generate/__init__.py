# SPDX-License-Identifier: MIT
"""What writes the generated parts of README and docs."""
