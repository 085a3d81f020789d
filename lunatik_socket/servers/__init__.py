# SPDX-License-Identifier: MIT
"""Servers built with only the socket API: `echo` and the SOCKSv4 proxy `socks4`."""
