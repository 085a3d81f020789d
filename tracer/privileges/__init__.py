# SPDX-License-Identifier: MIT
"""Who may do what: the unprivileged processes, and the broker that asks the kernel for them.

powers.py says what each process may do, requests.py what the broker answers. docs/security.md has
the whole picture.
"""
