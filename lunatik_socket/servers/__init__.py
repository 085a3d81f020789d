# SPDX-License-Identifier: MIT
"""Servers built on nothing but the socket API: `echo` and the SOCKSv4 proxy `socks4`."""
