# SPDX-License-Identifier: MIT
"""The HTTP server: connections, limits, routes. TLS and passwords belong here."""
